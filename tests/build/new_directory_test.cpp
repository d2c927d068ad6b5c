#include "build/new_directory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <iterator>
#include <thread>

#include "base/error.h"
#include "base/mapped_file.h"

namespace ingot {
namespace {

namespace fs = std::filesystem;

class NewDirectories : public ::testing::Test {
 protected:
  NewDirectories() { fs::create_directories(folder_); }
  ~NewDirectories() override { fs::remove_all(folder_); }

  fs::path add(const std::string& name) {
    fs::create_directories(folder_ / name);
    write_text_file(folder_ / name / "rank0.engine", "half of it");
    return folder_ / name;
  }

  fs::path folder_ = fs::temp_directory_path() / ("ingot_new_directory_" + std::to_string(getpid()));
};

// The number of a process that has ended.
std::string dead_process() {
  pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);
  return std::to_string(child);
}

TEST_F(NewDirectories, ComeToTheirPlaceWhole) {
  {
    NewDirectory directory(folder_ / "deep/engine/");
    write_text_file(directory.path() / "a", "1");
    EXPECT_FALSE(fs::exists(folder_ / "deep/engine"));
    directory.commit();
  }
  EXPECT_TRUE(fs::exists(folder_ / "deep/engine/a"));
  { NewDirectory given_up(folder_ / "other/engine"); }
  EXPECT_FALSE(fs::exists(folder_ / "other"));
}

TEST_F(NewDirectories, ReplaceNothingButEngines) {
  fs::create_directories(folder_ / "empty");
  add("engine");
  fs::create_directories(folder_ / "mine");
  write_text_file(folder_ / "mine/config.json", "precious");
  EXPECT_NO_THROW(NewDirectory(folder_ / "empty"));
  EXPECT_NO_THROW(NewDirectory(folder_ / "engine"));
  fs::create_symlink(folder_ / "nowhere", folder_ / "link");
  EXPECT_THROW(NewDirectory(folder_ / "link"), Error);
  for (const char* name : {"empty/.building1", "empty/lost+found"}) fs::create_directories(folder_ / name);
  EXPECT_NO_THROW(NewDirectory(folder_ / "empty")) << "another build's, and the file system's";
  try {
    NewDirectory directory(folder_ / "mine");
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_NE(std::string(error.what()).find("holds config.json and no rank0.engine"), std::string::npos)
        << error.what();
  }
}

TEST_F(NewDirectories, RemoveWhatAKilledBuildLeft) {
  std::string dead = dead_process();
  fs::path left = add("engine.building" + dead), own = add("engine.building" + std::to_string(getpid()));
  fs::path living = add("engine.building" + std::to_string(getppid()));
  fs::path inner = add("engine/.building" + dead);
  fs::path other = add("engine2.building" + dead), named = add("engine.building" + dead + "x"), plain = add("engine");
  NewDirectory directory(folder_ / "engine");
  EXPECT_FALSE(fs::exists(left));
  EXPECT_FALSE(fs::exists(inner));
  EXPECT_FALSE(fs::exists(own));
  for (const fs::path& each : {living, other, named, plain}) EXPECT_TRUE(fs::exists(each / "rank0.engine")) << each;
}

// A mounted folder, or one that is the user's in a parent that is not.
TEST_F(NewDirectories, NeedNothingBesideOneThatExists) {
  if (getuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  constexpr uid_t kNobody = 65534;
  fs::path engine = folder_ / "engine";
  fs::create_directories(engine);
  ASSERT_EQ(chown(engine.c_str(), kNobody, kNobody), 0);
  pid_t child = fork();
  if (child == 0) {
    if (setuid(kNobody) != 0) _exit(2);
    try {
      NewDirectory directory(engine);
      write_text_file(directory.path() / "rank0.engine", "whole");
      directory.commit();
    } catch (const Error& error) {
      std::fprintf(stderr, "%s\n", error.what());
      _exit(1);
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_text_file(engine / "rank0.engine"), "whole");
  EXPECT_EQ(std::distance(fs::directory_iterator(engine), {}), 1);
}

// Each of the two brings a pair of files; `name` says whose.
void fill(const NewDirectory& directory, const std::string& name) {
  for (const char* file : {"config.json", "rank0.engine"}) write_text_file(directory.path() / file, name);
}

TEST_F(NewDirectories, GoIntoWhatAnotherBuildMadeMeanwhile) {
  NewDirectory late(folder_ / "engine");
  fill(late, "late");
  pid_t child = fork();
  if (child == 0) {
    NewDirectory early(folder_ / "engine");
    fill(early, "early");
    write_text_file(early.path() / "tokenizer.json", "early");
    early.commit();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_text_file(folder_ / "engine/tokenizer.json"), "early");
  write_text_file(late.path() / "generation_config.json", "late");
  late.commit();
  EXPECT_EQ(read_text_file(folder_ / "engine/generation_config.json"), "late");
  for (const char* file : {"config.json", "rank0.engine"}) EXPECT_EQ(read_text_file(folder_ / "engine" / file), "late");
  EXPECT_FALSE(fs::exists(folder_ / "engine/tokenizer.json"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "nothing is left beside it";
}

TEST_F(NewDirectories, WaitForOneAnother) {
  add("engine");
  NewDirectory directory(folder_ / "engine");
  fill(directory, "new");
  std::thread build;
  {
    FolderLock other = FolderLock::take(folder_ / "engine");
    build = std::thread([&] { directory.commit(); });
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    EXPECT_EQ(read_text_file(folder_ / "engine/rank0.engine"), "half of it");
  }
  build.join();
  EXPECT_EQ(read_text_file(folder_ / "engine/rank0.engine"), "new");
}

// A commit that ends in between is seen by config.json, which came first, beside the engine, which comes last.
TEST_F(NewDirectories, MoveTheConfigurationFirstAndTheEngineLast) {
  add("engine");
  fs::create_directories(folder_ / "engine/tokenizer.json/no file");
  NewDirectory directory(folder_ / "engine");
  fill(directory, "new");
  write_text_file(directory.path() / "tokenizer.json", "new");
  EXPECT_THROW(directory.commit(), Error);
  EXPECT_EQ(read_text_file(folder_ / "engine/config.json"), "new");
  EXPECT_EQ(read_text_file(folder_ / "engine/rank0.engine"), "half of it");
}

// As a container does that shares the disk but not the process numbers.
TEST_F(NewDirectories, LeaveWhatSomebodyHolds) {
  fs::path held = add("engine.building" + dead_process());
  int lock = open(held.c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(flock(lock, LOCK_EX | LOCK_NB), 0);
  { NewDirectory directory(folder_ / "engine"); }
  EXPECT_TRUE(fs::exists(held));
  close(lock);
  { NewDirectory directory(folder_ / "engine"); }
  EXPECT_FALSE(fs::exists(held));
}

TEST_F(NewDirectories, HoldTheirOwn) {
  NewDirectory directory(folder_ / "engine");
  int lock = open(directory.path().c_str(), O_RDONLY | O_DIRECTORY);
  EXPECT_NE(flock(lock, LOCK_EX | LOCK_NB), 0);
  close(lock);
}

}  // namespace
}  // namespace ingot
