#include "build/new_directory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

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
    directory.commit({});
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
  fs::path other = add("engine2.building" + dead), named = add("engine.building" + dead + "x"), plain = add("engine");
  NewDirectory directory(folder_ / "engine");
  EXPECT_FALSE(fs::exists(left));
  EXPECT_EQ(own, directory.path());
  EXPECT_FALSE(fs::exists(own / "rank0.engine"));
  for (const fs::path& each : {living, other, named, plain}) EXPECT_TRUE(fs::exists(each / "rank0.engine")) << each;
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
