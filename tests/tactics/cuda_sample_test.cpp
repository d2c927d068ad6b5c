// The choice of tokens on NVIDIA GPUs: how it is launched where, and that it compiles.
#include <gtest/gtest.h>

#include "kernels/cuda/module_launch.h"
#include "tactics/cuda/device_code.h"
#include "tactics/cuda/sample.h"

namespace ingot {
namespace {

Target target_of(const std::string& arch) {
  Target target;
  target.kind = "cuda";
  target.cuda_arch = arch;
  return target;
}

Problem problem_of(int64_t vocab, std::string_view logits = "f32") {
  Problem problem = parse_problem(format("sample f32[4, {}] f32[4, 6] i32[4, 8] i32[64, 2] i32[64]", vocab));
  problem.inputs[0].dtype = logits == "f32" ? DType::kF32 : DType::kF64;
  return problem;
}

CompiledTactic tactic_for(int64_t vocab, const std::string& arch) {
  auto offered = cuda_sample_source()->enumerate(problem_of(vocab), target_of(arch));
  return cuda_sample_source()->compile(problem_of(vocab), std::get<0>(offered).at(0), target_of(arch));
}

std::vector<ModuleLaunch> launches_of(const CompiledTactic& tactic) {
  std::vector<ModuleLaunch> launches;
  for (const CompiledStep& step : tactic.steps) {
    Lexer lexer(step.parameters);
    launches.push_back(parse_fields<ModuleLaunch>(lexer));
  }
  return launches;
}

TEST(CudaSample, SharesRowsAmongBlocksOfACluster) {
  auto launches = launches_of(tactic_for(128256, "sm_90a"));
  ASSERT_EQ(launches.size(), 2u);
  EXPECT_EQ(launches[0].function, "sample_greedy");
  EXPECT_EQ(launches[0].cluster, 8);
  EXPECT_EQ(launches[1].cluster, 16);
  EXPECT_FALSE(launches[1].cooperative);
  EXPECT_EQ(launches[1].block, (std::vector<int64_t>{512}));
  // A large one needs all the threads of a multiprocessor.
  EXPECT_EQ(launches_of(tactic_for(262144, "sm_90a"))[1].block, (std::vector<int64_t>{1024}));
  // A small vocabulary needs one block.
  launches = launches_of(tactic_for(4096, "sm_90a"));
  ASSERT_EQ(launches.size(), 2u);
  EXPECT_EQ(launches[1].cluster, 1);
}

TEST(CudaSample, BlocksThatCannotFormClustersRunAtOnce) {
  for (const char* arch : {"sm_80", "sm_120a"}) {
    CompiledTactic tactic = tactic_for(128256, arch);
    auto launches = launches_of(tactic);
    ASSERT_EQ(launches.size(), 3u);
    EXPECT_EQ(launches[0].cluster, 1);
    EXPECT_EQ(launches[1].function, "sample_begin");
    EXPECT_TRUE(launches[2].cooperative);
    EXPECT_GT(tactic.scratch_bytes, 0);
  }
}

TEST(CudaSample, RefusesWhatHasNoRoomInRegisters) {
  auto reason = [](const Problem& problem) {
    auto offered = cuda_sample_source()->enumerate(problem, target_of("sm_90a"));
    return std::holds_alternative<Unsupported>(offered) ? std::get<Unsupported>(offered).reason : "accepted";
  };
  EXPECT_EQ(reason(problem_of(262208)), "accepted");
  EXPECT_NE(reason(problem_of(400000)).find("at most 294912 logits in a row"), std::string::npos);
  EXPECT_NE(reason(problem_of(100, "f64")).find("needs f32"), std::string::npos);
}

TEST(CudaSample, AllDeviceCodeCompilesForEveryArchitecture) {
  if (compiler_version().empty()) GTEST_SKIP() << why_no_compiler();
  ThreadPool threads(2);
  std::vector<DeviceModule> modules;
  for (const char* arch : {"sm_80", "sm_89", "sm_90a", "sm_100a", "sm_120a"})
    for (const DeviceModule& module : tactic_for(128256, arch).modules) modules.push_back(module);
  for (const DeviceModule& module : tactic_for(262144, "sm_80").modules) modules.push_back(module);
  for (const DeviceModule& module : tactic_for(4096, "sm_90a").modules) modules.push_back(module);
  Problem next = parse_problem("next_ids i32[4] i32[4]");
  for (const DeviceModule& module : cuda_next_ids_source()->compile(next, "", target_of("sm_80")).modules)
    modules.push_back(module);
  EXPECT_EQ(modules.size(), 8u);
  EXPECT_NO_THROW(compile_all(modules, threads));
}

}  // namespace
}  // namespace ingot
