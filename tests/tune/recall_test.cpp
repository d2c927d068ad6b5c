// A build without a GPU from the timing cache of a machine that has one.
#include <gtest/gtest.h>

#include "device/cuda/device.h"
#include "tactics/library/cublaslt_matmul.h"
#include "tune/tuner.h"

namespace ingot {
namespace {

TEST(Recall, TheCacheStandsInForTheLibrary) {
  if (cuda::Device::missing().empty()) GTEST_SKIP() << "there is a GPU";
  Target target = parse_target("cuda:sm_90a", 1);
  target.device = "NVIDIA H200/sm_90a/132sm";
  const Problem problem = parse_problem("matmul bf16[64, 256] bf16[512, 256]");
  TimingCache cache;
  for (const TacticSource* source : tactic_list()) {
    const auto offered = source->enumerate(problem, target);
    if (const auto* configs = std::get_if<0>(&offered))
      for (const std::string& config : *configs)
        cache.add(target.device, problem.key(), {std::string(source->name()), config}, source->version(), {20, false});
  }
  const Tactic pinned{"cuda.cublaslt", "{algorithm = \"0000000000000042\", workspace_bytes = 65536, version = 130100}"};
  cache.add(target.device, problem.key(), pinned, cublaslt_matmul_source()->version(), {10, false});
  const std::string before = cache.text();

  TuneOptions options;
  options.frozen = true;
  auto silent = make_progress("none");
  const Timings timings = tune({problem}, target, cache, options, *silent);
  EXPECT_EQ(timings.cache_hits, 1);
  EXPECT_EQ(cache.text(), before);
  const std::vector<TimedTactic>& candidates = timings.problems[0].candidates;
  ASSERT_GT(candidates.size(), 1u);
  EXPECT_EQ(candidates.back().tactic, pinned);
  EXPECT_EQ(candidates.back().timing.microseconds, 10);
  EXPECT_FALSE(candidates.front().tactic.source == "cuda.cublaslt");

  // Guesses do not look into the cache.
  options = {.measure = false};
  const Timings guessed = tune({problem}, target, cache, options, *silent);
  for (const TimedTactic& candidate : guessed.problems[0].candidates)
    EXPECT_NE(candidate.tactic.source, "cuda.cublaslt");
}

}  // namespace
}  // namespace ingot
