// Files are written whole or not at all, whatever ends the writing.
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cstring>
#include <thread>

#include "base/error.h"
#include "e2e/models.h"
#include "e2e/run_ingot.h"
#include "tune/timing_cache.h"

namespace ingot {
namespace {

class FailedWriting : public testing::Test {
 protected:
  // What a failed build over an engine, and beside one, must leave as it was.
  void expect_untouched_by(const ProgramInput& input, const std::vector<std::string>& said) {
    build_engine_dir(PretrainedModel::from_pretrained(toy_model("llama")), untuned("float32"), directory_ / "old");
    std::string before = read_text_file(directory_ / "old/rank0.engine");
    std::vector<std::string> names = listing(directory_.path());
    for (const char* out : {"old", "new"}) {
      ProgramRun run = run_ingot({"build", baker_7m(), "-O0", "-o", directory_ / out}, input);
      EXPECT_EQ(run.code, 1) << run.err;
      for (const std::string& part : said) EXPECT_TRUE(contains(run.err, part)) << run.err;
      EXPECT_EQ(listing(directory_.path()), names);
    }
    EXPECT_TRUE(read_text_file(directory_ / "old/rank0.engine") == before);
    EXPECT_NO_THROW(Engine::from_dir(directory_ / "old"));
  }

  TemporaryDirectory directory_;
};

TEST_F(FailedWriting, AFileThatMayNotGrow) {
  expect_untouched_by({.largest_file = 1 << 20}, {"cannot write", "File too large"});
}

// Nothing is begun: others write to the disk, too.
TEST_F(FailedWriting, ADiskWithoutRoomForTheWeights) {
  if (mount("tmpfs", directory_.path().c_str(), "tmpfs", 0, "size=3m") != 0)
    GTEST_SKIP() << "mounting a small file system needs root: " << std::strerror(errno);
  OnExit unmount([&] { EXPECT_EQ(umount(directory_.path().c_str()), 0); });
  expect_untouched_by({}, {"the weights of the engine take 14.02 MiB; its disk has ", " free"});
  ProgramRun run = run_ingot({"build", baker_7m(), "-O0", "-o", directory_ / "new", "--progress", "json"});
  EXPECT_FALSE(contains(run.err, "\"phase\":\"write\"")) << run.err;
}

// The weights fit; first the end of the engine file does not, then the tokenizer behind it.
TEST_F(FailedWriting, ADiskThatIsFullBehindTheWeights) {
  build_engine_dir(PretrainedModel::from_pretrained(baker_7m()), untuned("bfloat16"), directory_ / "measured");
  const uint64_t engine = std::filesystem::file_size(directory_ / "measured/rank0.engine");
  const uint64_t tokenizer = std::filesystem::file_size(directory_ / "measured/tokenizer.json");
  std::filesystem::remove_all(directory_ / "measured");
  const std::pair<uint64_t, const char*> disks[] = {{engine - 8192, "rank0.engine"},
                                                    {engine + tokenizer / 2, "tokenizer.json"}};
  for (const auto& [size, file] : disks) {
    const std::string options = format("size={}", size);
    if (mount("tmpfs", directory_.path().c_str(), "tmpfs", 0, options.c_str()) != 0)
      GTEST_SKIP() << "mounting a small file system needs root: " << std::strerror(errno);
    OnExit unmount([&] { EXPECT_EQ(umount(directory_.path().c_str()), 0); });
    ProgramRun run = run_ingot({"build", baker_7m(), "-O0", "-o", directory_ / "engine"});
    EXPECT_EQ(run.code, 1) << run.err;
    EXPECT_TRUE(contains(run.err, file) && contains(run.err, "No space left on device")) << run.err;
    EXPECT_EQ(listing(directory_.path()), std::vector<std::string>{});
  }
}

// The engine is worth the times that it took; for a dry run they are all.
TEST_F(FailedWriting, ADiskWithoutRoomForTheTimes) {
  TemporaryDirectory elsewhere;
  if (mount("tmpfs", directory_.path().c_str(), "tmpfs", 0, "size=4k") != 0)
    GTEST_SKIP() << "mounting a small file system needs root: " << std::strerror(errno);
  OnExit unmount([&] { EXPECT_EQ(umount(directory_.path().c_str()), 0); });
  std::vector<std::string> arguments = {"build",          toy_model("llama"),  "-O1", "--max-num-tokens", "4",
                                        "--timing-cache", directory_ / "times"};
  std::vector<std::string> dry = arguments;
  dry.emplace_back("--dry-run");
  arguments.insert(arguments.end(), {"-o", elsewhere / "engine"});
  ProgramRun run = run_ingot(arguments);
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_TRUE(contains(run.err, "the measured times are not kept: cannot write")) << run.err;
  EXPECT_TRUE(contains(run.err, "No space left on device")) << run.err;
  EXPECT_NO_THROW(Engine::from_dir(elsewhere / "engine"));
  EXPECT_EQ(run_ingot(dry).code, 1);
  EXPECT_EQ(listing(directory_.path()), std::vector<std::string>{});
}

TEST_F(FailedWriting, AWrongPlaceIsToldBeforeAnythingIsMeasured) {
  write_text_file(directory_ / "file", "mine");
  const std::string file = directory_ / "file", fine = directory_ / "fine";
  const std::vector<std::vector<std::string>> places = {
      {"-o", file}, {"-o", file + "/engine"}, {"-o", fine, "--timing-cache", file + "/folder/times"}};
  for (const std::vector<std::string>& place : places) {
    std::vector<std::string> arguments = {"build", toy_model("llama"), "-O1", "--progress", "json"};
    arguments.insert(arguments.end(), place.begin(), place.end());
    ProgramRun run = run_ingot(arguments);
    EXPECT_NE(run.code, 0);
    EXPECT_TRUE(contains(run.err, file)) << run.err;
    EXPECT_FALSE(contains(run.err, "\"phase\":\"tune\"")) << run.err;
    EXPECT_EQ(listing(directory_.path()), std::vector<std::string>{"file"});
  }
}

TEST(Writing, TwoBuildsAtOnceKeepTheTimesOfBoth) {
  TemporaryDirectory directory;
  auto arguments = [&](const std::string& dtype, const std::string& level) -> std::vector<std::string> {
    return {"build",           toy_model("llama"), "--max-num-tokens",  "4",       level, "-o",
            directory / dtype, "--timing-cache",   directory / "times", "--dtype", dtype};
  };
  {
    StartedProgram one(arguments("float32", "-O1")), other(arguments("float16", "-O1"));
    EXPECT_EQ(one.wait().code, 0);
    EXPECT_EQ(other.wait().code, 0);
  }
  for (const char* dtype : {"float32", "float16"}) {
    ProgramRun run = run_ingot(arguments(dtype, "--frozen"));
    EXPECT_EQ(run.code, 0) << run.err;
  }
}

TEST(Writing, ATimingCacheThatCannotChangeServesAllTheSame) {
  TemporaryDirectory directory, folder;
  std::vector<std::string> arguments = {"build",          toy_model("llama"), "-O1", "--max-num-tokens",  "4",
                                        "--timing-cache", folder / "times",   "-o",  directory / "first", "--json"};
  EXPECT_EQ(run_ingot(arguments).code, 0);
  std::string times = read_text_file(folder / "times");
  if (mount(folder.path().c_str(), folder.path().c_str(), nullptr, MS_BIND, nullptr) != 0)
    GTEST_SKIP() << "mounting needs root: " << std::strerror(errno);
  OnExit unmount([&] { EXPECT_EQ(umount(folder.path().c_str()), 0); });
  ASSERT_EQ(mount(nullptr, folder.path().c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr), 0);
  for (const char* tokens : {"4", "64"}) {
    arguments[4] = tokens;
    ProgramRun run = run_ingot(arguments);
    EXPECT_EQ(run.code, 0) << run.err;
    EXPECT_TRUE(contains(run.err, "new times are not kept")) << run.err;
    EXPECT_EQ(contains(run.err, "the measured times are not kept"), std::string(tokens) == "64") << run.err;
    EXPECT_EQ(read_text_file(folder / "times"), times);
  }
}

TEST_F(FailedWriting, AFileWhereTheEngineDirectoryShouldBe) {
  write_text_file(directory_ / "file", "mine");
  for (const char* out : {"file", "file/engine"}) {
    ProgramRun run = run_ingot({"build", toy_model("llama"), "-O0", "-o", directory_ / out});
    EXPECT_EQ(run.code, std::string(out) == "file" ? 2 : 1) << run.err;
    EXPECT_TRUE(contains(run.err, "/file")) << run.err;
  }
  EXPECT_EQ(read_text_file(directory_ / "file"), "mine");
  EXPECT_EQ(listing(directory_.path()), std::vector<std::string>{"file"});
}

// As under nohup.
TEST(Writing, ABuildThatIgnoresItsTerminalGoesOn) {
  TemporaryDirectory directory;
  auto before = ::signal(SIGHUP, SIG_IGN);
  StartedProgram program({"build", baker_7m(), "-O1", "-o", directory / "engine", "--progress", "json"});
  ::signal(SIGHUP, before);
  for (int i = 0; i < 1000 && !contains(program.err_so_far(), "\"phase\":\"tune\""); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  program.signal(SIGHUP);
  ProgramRun run = program.wait();
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_TRUE(std::filesystem::exists(directory / "engine/rank0.engine"));
}

TEST(Writing, AMountedFolderTakesAnEngine) {
  TemporaryDirectory directory;
  if (mount("tmpfs", directory.path().c_str(), "tmpfs", 0, "size=8m") != 0)
    GTEST_SKIP() << "mounting a small file system needs root: " << std::strerror(errno);
  OnExit unmount([&] { EXPECT_EQ(umount(directory.path().c_str()), 0); });
  for (const char* dtype : {"float32", "bfloat16"}) {
    ProgramRun run = run_ingot({"build", toy_model("llama"), "-O0", "--dtype", dtype, "-o", directory.path().string()});
    EXPECT_EQ(run.code, 0) << run.err;
    EXPECT_EQ(listing(directory.path()),
              (std::vector<std::string>{"config.json", "generation_config.json", "rank0.engine"}));
    EXPECT_EQ(Engine::from_dir(directory.path()).dtype(), dtype);
  }
}

TEST_F(FailedWriting, AnEndWhileWeightsAreWrittenLeavesNothing) {
  bool writing = false;
  auto stop = [&](std::string_view phase, double done) {
    writing = writing || (phase == "write" && done > 0);
    if (writing) throw Error(ErrorCode::kInterrupted, "enough");
  };
  PretrainedModel model = PretrainedModel::from_pretrained(baker_7m());
  EXPECT_THROW(build_engine_dir(model, untuned("float32"), directory_ / "engine", stop), Error);
  EXPECT_TRUE(writing);
  EXPECT_EQ(listing(directory_.path()), std::vector<std::string>{});
}

class InterruptedBuild : public FailedWriting {
 protected:
  // Some problems in: not at the very beginning, not at the end. `signal` comes `often` times at once.
  void expect_times_alone(std::vector<std::string> words, int signal, int often = 1) {
    const std::string times = directory_ / "times";
    words.insert(words.end(), {"-O5", "--timing-cache", times, "--progress", "json"});
    StartedProgram program(words);
    for (int i = 0; i < 1000 && !contains(program.err_so_far(), "\"phase\":\"tune\",\"done\":1"); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    for (int i = 0; i < often; ++i) {
      if (i > 0) std::this_thread::sleep_for(std::chrono::microseconds(200));  // so that they do not become one
      program.signal(signal);
    }
    ProgramRun run = program.wait();
    EXPECT_EQ(run.code, 130) << run.err;
    EXPECT_TRUE(contains(run.err, "interrupted")) << run.err;
    EXPECT_EQ(listing(directory_.path()), std::vector<std::string>{"times"});
    EXPECT_GT(TimingCache::load(times).size(), 0u);
    std::filesystem::remove(times);
  }
};

TEST_F(InterruptedBuild, LeavesNothingButItsTimes) {
  ::signal(SIGHUP, SIG_DFL);  // these tests may run under nohup
  for (int signal : {SIGINT, SIGTERM, SIGHUP})
    expect_times_alone({"build", baker_7m(), "-o", directory_ / "engine"}, signal);
}

TEST_F(InterruptedBuild, IsNotKilledByOneSignalThatComesTwice) {
  expect_times_alone({"build", baker_7m(), "-o", directory_ / "engine"}, SIGTERM, 5);
}

TEST_F(InterruptedBuild, KeepsTheTimesOfADryRun) { expect_times_alone({"build", baker_7m(), "--dry-run"}, SIGINT); }

}  // namespace
}  // namespace ingot
