// Decodes whose blocks send each other their parts, so often and so close behind each other that a block which ended
// too early, or read too early, would be seen; on the GPU that is here.
#include <gtest/gtest.h>

#include "device/cuda/device.h"
#include "tune/tactic_bench.h"

namespace ingot {
namespace {

// 8 sequences of `pages` pages each.
Problem decodes(int64_t pages) {
  const std::string state = format("bf16[{}, 8, 32, 64]", 8 * pages);
  return parse_problem(
      format("attention bf16[8, 2048] {} {} i32[9] i32[8] i32[9] i32[{}] i32[8] {{heads = 32, scale = 0.125}}", state,
             state, 8 * pages));
}

TEST(AttentionClusters, ManyLaunchesBehindEachOther) {
  if (const std::string missing = cuda::Device::missing(); !missing.empty()) GTEST_SKIP() << missing;
  const Target target = parse_target("cuda", 1);
  if (std::stoi(target.cuda_arch.substr(3)) < 90) GTEST_SKIP() << target.cuda_arch << " has no clusters";
  const auto bench = make_cuda_bench();
  int clustered = 0;
  for (int64_t pages : {1, 16}) {
    const Problem problem = decodes(pages);
    bench->begin(problem);
    for (const TacticSource* source : tactic_list()) {
      const auto offered = source->enumerate(problem, target);
      const auto* configs = std::get_if<std::vector<std::string>>(&offered);
      if (!configs) continue;
      for (const std::string& config : *configs) {
        if (config.find("clustered = true") == std::string::npos) continue;
        SCOPED_TRACE(format("{} {}", source->name(), config));
        ++clustered;
        const CompiledTactic tactic = source->compile(problem, config, target);
        const auto contestant = bench->enter(tactic);
        for (int turn = 0; turn < 1500; ++turn) ASSERT_NO_THROW(contestant->turn(1e300));
      }
    }
  }
  EXPECT_GE(clustered, 4);
}

}  // namespace
}  // namespace ingot
