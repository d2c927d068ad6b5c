// Measuring without a clock: a bench whose contestants take the time that their configuration says.
#include "tune/measurement.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "tune/lost_time.h"

namespace ingot {
namespace {

// What happened on the bench.
struct Story {
  std::vector<std::string> problems;  // in the order in which they began
  std::map<std::string, int> turns;   // by configuration
  int checks = 0;
};

// "panel_16 1.5": a layout, and microseconds per megaflop.
double speed_of(const CompiledTactic& tactic) {
  const std::string& config = tactic.steps[0].parameters;
  return std::stod(config.substr(config.find(' ') + 1));
}

class FakeSource final : public TacticSource {
 public:
  std::string_view name() const override { return "fake"; }
  std::string_view version() const override { return "1"; }
  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem&, const Target&) const override {
    return Unsupported{};
  }
  CompiledTactic compile(const Problem& problem, std::string_view config, const Target&) const override {
    CompiledTactic tactic;
    tactic.steps.push_back({"fake", std::string(config), {}});
    tactic.input_layouts.resize(problem.inputs.size());
    tactic.input_layouts[1] = std::string(config.substr(0, config.find(' ')));
    return tactic;
  }
};

class FakeBench final : public TacticBench {
 public:
  FakeBench(Story& story, bool screens) : story_(story), screens_(screens) {}
  CutLimits limits() const override { return {INT64_MAX, 10e6}; }
  std::optional<CutLimits> screening_limits() const override {
    return screens_ ? std::optional(CutLimits{INT64_MAX, 2e6}) : std::nullopt;
  }
  void begin(const Problem& problem) override {
    story_.problems.push_back(problem.key());
    megaflops_ = problem.op.flops(problem.inputs) / 1e6;
  }
  std::unique_ptr<Contestant> enter(const CompiledTactic& tactic) override {
    const std::string& config = tactic.steps[0].parameters;
    return std::make_unique<Fake>(story_.turns[config], megaflops_ * speed_of(tactic), config == failing);
  }
  CheckResult check(const Problem&, const CompiledTactic& tactic, const Inputs&, const Expected&) override {
    ++story_.checks;
    if (tactic.steps[0].parameters == failing_check) fail(ErrorCode::kRuntime, "work failed");
    return {tactic.steps[0].parameters != wrong, 1, "somewhere"};
  }
  std::string wrong, failing, failing_check;

 private:
  struct Fake final : Contestant {
    Fake(int& turns_, double microseconds_, bool fails_) : turns(turns_), microseconds(microseconds_), fails(fails_) {}
    double turn(double) override {
      if (fails) fail(ErrorCode::kRuntime, "work failed");
      return ++turns, microseconds;
    }
    int& turns;
    double microseconds;
    bool fails;
  };
  Story& story_;
  bool screens_;
  double megaflops_ = 0;
};

ProblemTimings candidates(std::string_view problem, const std::vector<std::string>& configs) {
  static const FakeSource source;
  ProblemTimings timings;
  timings.problem = parse_problem(problem);
  for (const std::string& config : configs)
    timings.candidates.push_back({{"fake", config}, &source, source.compile(timings.problem, config, {}), {}});
  return timings;
}

constexpr std::string_view kSmall = "matmul f32[16, 256] bf16[1024, 256]",
                           kLarge = "matmul f32[16, 256] bf16[4096, 256]",
                           kDeep = "matmul f32[16, 512] bf16[1024, 512]", kFew = "matmul f32[8, 512] bf16[2048, 512]";

TEST(Measurement, DropsStragglersWithinALayout) {
  Story story;
  Measurement measurement({}, 3, std::make_unique<FakeBench>(story, true));
  ProblemTimings timings = candidates(kSmall, {"a 1", "a 1.2", "a 1.5", "b 3", "b 2.9"});
  measurement.measure(timings);
  std::vector<bool> dropped;
  for (const TimedTactic& timed : timings.candidates) dropped.push_back(timed.timing.dropped);
  EXPECT_EQ(dropped, (std::vector<bool>{false, true, true, false, false}));
  // 2 * 16 * 256 * 1024 operations.
  EXPECT_EQ(timings.candidates[0].timing.microseconds, 8.39);
  EXPECT_EQ(story.problems, (std::vector<std::string>{"matmul f32[16, 256] bf16[192, 256]", std::string(kSmall)}));
  EXPECT_EQ(story.turns["a 1"], 2 + 2) << "screening, then until it is alone";
  EXPECT_EQ(story.turns["a 1.5"], 2);
  EXPECT_EQ(story.turns["b 3"], 2 + 3);
  EXPECT_EQ(story.checks, 2);
}

TEST(Measurement, NamesTheCandidateThatFails) {
  Story story;
  auto error_of = [&](std::string FakeBench::*where) {
    auto bench = std::make_unique<FakeBench>(story, false);
    (*bench).*where = "a 1";
    Measurement measurement({}, 3, std::move(bench));
    ProblemTimings timings = candidates("matmul f32[16, 64] bf16[64, 64]", {"a 1.1", "a 1"});
    try {
      measurement.measure(timings);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const std::string said = "measuring matmul f32[16, 64] bf16[64, 64] by fake a 1: work failed";
  EXPECT_EQ(error_of(&FakeBench::failing), said);
  EXPECT_EQ(error_of(&FakeBench::failing_check), said);
}

TEST(Measurement, MeasuresEqualCutsOnce) {
  Story story;
  Measurement measurement({}, 3, std::make_unique<FakeBench>(story, true));
  ProblemTimings small = candidates("matmul f32[16, 256] bf16[2560, 256]", {"a 1", "a 1.1", "b 3"});
  ProblemTimings large = candidates(kLarge, {"a 1", "a 1.1", "b 3"});
  measurement.measure(small);
  Story before = story;
  measurement.measure(large);
  EXPECT_EQ(story.problems, before.problems);
  EXPECT_EQ(story.turns, before.turns);
  EXPECT_EQ(story.checks, before.checks);
  EXPECT_EQ(small.candidates[0].timing.microseconds, 21);
  EXPECT_EQ(large.candidates[0].timing.microseconds, 33.6);
}

TEST(Measurement, DoesNotMeasureWhatWasFarSlowerOnALikeProblem) {
  Story story;
  Measurement measurement({}, 3, std::make_unique<FakeBench>(story, true));
  ProblemTimings first = candidates(kSmall, {"a 1", "a 2", "b 3", "b 1"}),
                 second = candidates(kDeep, {"a 1", "a 2", "b 3"});
  measurement.measure(first);
  int turns = story.turns["a 2"];
  measurement.measure(second);
  EXPECT_EQ(story.turns["a 2"], turns);
  EXPECT_TRUE(second.candidates[1].timing.dropped);
  EXPECT_EQ(second.candidates[1].timing.microseconds, 2 * second.candidates[0].timing.microseconds);
  EXPECT_GT(story.turns["b 3"], 2) << "a layout keeps a candidate";
  EXPECT_FALSE(second.candidates[2].timing.dropped);
  // Fewer rows are another matter.
  ProblemTimings third = candidates(kFew, {"a 1", "a 2"});
  measurement.measure(third);
  EXPECT_GT(story.turns["a 2"], turns);
}

TEST(Measurement, MeasuresEverythingWhereScreeningDoesNotPay) {
  Story story;
  Measurement measurement({}, 3, std::make_unique<FakeBench>(story, false));
  ProblemTimings first = candidates(kSmall, {"a 1", "a 2"}), second = candidates(kDeep, {"a 1", "a 2"});
  measurement.measure(first);
  EXPECT_EQ(story.turns["a 2"], 2);
  measurement.measure(second);
  EXPECT_EQ(story.turns["a 2"], 4);
}

TEST(Measurement, ThrowsOutWhatComputesWrongly) {
  Story story;
  auto bench = std::make_unique<FakeBench>(story, true);
  bench->wrong = "a 1";
  Measurement measurement({}, 3, std::move(bench));
  ProblemTimings timings = candidates(kSmall, {"a 1", "a 1.1"});
  measurement.measure(timings);
  EXPECT_TRUE(timings.candidates[0].timing.dropped);
  EXPECT_FALSE(timings.candidates[1].timing.dropped);
  ProblemTimings alone = candidates(kSmall, {"a 1"});
  EXPECT_THROW(measurement.measure(alone), Error);
}

TEST(LostTime, IsWhatOthersTook) {
  if (!std::filesystem::exists("/proc/self/schedstat")) GTEST_SKIP() << "this kernel does not count waiting";
  ThreadPool pool(2);
  LostTime lost(pool);
  std::vector<std::jthread> others;
  for (int i = 0; i < 3 * usable_cpus(); ++i)
    others.emplace_back([](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
      }
    });
  double passed = 0, corrected = 0;
  for (int i = 0; i < 10; ++i) {
    lost.start();
    auto start = std::chrono::steady_clock::now();
    pool.run([](int) {
      volatile int64_t work = 0;
      for (int64_t j = 0; j < 5000000; ++j) work = work + j;
    });
    double wall = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
    double without = lost.without(wall);
    EXPECT_LE(without, wall);
    EXPECT_GT(without, 0);
    passed += wall, corrected += without;
  }
  EXPECT_LT(corrected, 0.8 * passed) << "four threads share every CPU";
}

}  // namespace
}  // namespace ingot
