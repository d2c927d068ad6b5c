// The sources of the CPU kernels other than matmul: what they refuse, and that what they compile runs.
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/run_kernel.h"
#include "ops/attention.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/rope.h"
#include "tactics/tactic.h"

namespace ingot {
namespace {

Problem problem_of(const AnyOp& op, const HostTensors& inputs) {
  Problem problem{op, {}, {}};
  for (const HostTensor& input : inputs) problem.inputs.push_back(input.type);
  problem.outputs = op.infer(problem.inputs);
  return problem;
}

Target target_of(CpuLevel level, int threads) {
  Target target;
  target.cpu_level = level;
  target.threads = threads;
  return target;
}

std::vector<std::string> sources_for(const Problem& problem, const Target& target) {
  std::vector<std::string> names;
  for (const TacticSource* source : tactic_list())
    if (std::holds_alternative<std::vector<std::string>>(source->enumerate(problem, target)))
      names.emplace_back(source->name());
  return names;
}

HostTensors attention_inputs(DType state) {
  return {random_tensor(DType::kF32, {34, 4 * 32}, 1),
          random_tensor(state, {30, 2, 16, 32}, 2),
          random_tensor(state, {30, 2, 16, 32}, 3),
          index_tensor({0, 1, 34}),
          index_tensor({300, 33}),
          index_tensor({0, 19, 22}),
          index_tensor({5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 1, 2, 3}),
          index_tensor({0, 0})};
}

TEST(CpuSources, OfferOnlyWhatTheTargetHasWidestFirst) {
  const Problem norm =
      problem_of(RmsNorm{}, {random_tensor(DType::kF32, {3, 8}, 1), random_tensor(DType::kF32, {8}, 2)});
  using Names = std::vector<std::string>;
  EXPECT_EQ(sources_for(norm, target_of(CpuLevel::kPortable, 1)), Names{"cpu.rms_norm_portable"});
  EXPECT_EQ(sources_for(norm, target_of(CpuLevel::kAmx, 1)),
            (Names{"cpu.rms_norm_avx512", "cpu.rms_norm_avx2", "cpu.rms_norm_portable"}));
  const Names wide =
      sources_for(problem_of(Attention{4}, attention_inputs(DType::kBF16)), target_of(CpuLevel::kAmx, 1));
  ASSERT_EQ(wide.size(), 4u);
  EXPECT_EQ(wide[0], "cpu.attention_amx");
  EXPECT_EQ(sources_for(problem_of(Attention{4}, attention_inputs(DType::kF32)), target_of(CpuLevel::kAmx, 1))[0],
            "cpu.attention_avx512");
}

TEST(CpuSources, RefuseOtherActivationTypesWithTheReason) {
  const Problem problem =
      problem_of(RmsNorm{}, {random_tensor(DType::kBF16, {3, 8}, 1), random_tensor(DType::kF32, {8}, 2)});
  for (const TacticSource* source : tactic_list()) {
    const auto tactics = source->enumerate(problem, target_of(CpuLevel::kAmx, 1));
    ASSERT_TRUE(std::holds_alternative<Unsupported>(tactics)) << source->name();
    if (source->name() == "cpu.rms_norm_avx2") {
      EXPECT_EQ(std::get<Unsupported>(tactics).reason, "found bf16[3, 8] where the CPU kernels need f32");
    }
  }
}

TEST(CpuSources, WideMatmulsAreRefusedForTheirNarrowInput) {
  const Problem problem = problem_of(Matmul{.wide = true},
                                     {random_tensor(DType::kBF16, {3, 8}, 1), random_tensor(DType::kBF16, {4, 8}, 2)});
  EXPECT_TRUE(sources_for(problem, target_of(CpuLevel::kAmx, 1)).empty());
  for (const TacticSource* source : tactic_list()) {
    if (!source->name().starts_with("cpu.matmul_avx2")) continue;
    EXPECT_EQ(std::get<Unsupported>(source->enumerate(problem, target_of(CpuLevel::kAmx, 1))).reason,
              "input 0 is bf16: activations must be f32, weights f32, f16 or bf16");
  }
}

TEST(CpuSources, PortableOnesStepAsideForThoseThatAreThere) {
  std::vector<std::string_view> names;
  for (const TacticSource* source : tactic_list()) names.push_back(source->name());
  int outclassed = 0;
  for (const TacticSource* source : tactic_list()) {
    EXPECT_EQ(source->outclassed_by(target_of(CpuLevel::kPortable, 1)), "") << source->name();
    std::string_view better = source->outclassed_by(target_of(CpuLevel::kAvx512, 1));
    if (better.empty()) continue;
    ++outclassed;
    EXPECT_TRUE(source->name().ends_with("_portable")) << source->name();
    EXPECT_EQ(std::count(names.begin(), names.end(), better), 1) << better;
    EXPECT_LT(std::find(names.begin(), names.end(), better), std::find(names.begin(), names.end(), source->name()));
  }
  EXPECT_GT(outclassed, 10);
}

TEST(CpuSources, AProductWithoutRowsIsNothingToStepAsideFor) {
  const Problem problem =
      problem_of(Matmul{}, {random_tensor(DType::kF32, {0, 8}, 1), random_tensor(DType::kF32, {4, 8}, 2)});
  for (const TacticSource* source : tactic_list())
    if (source->name() == "cpu.matmul_portable") {
      EXPECT_TRUE(std::get<0>(source->enumerate(problem, target_of(CpuLevel::kAmx, 1))).empty());
    }
}

TEST(CpuSources, TargetsOfAnotherKindAreRefused) {
  const Problem norm =
      problem_of(RmsNorm{}, {random_tensor(DType::kF32, {3, 8}, 1), random_tensor(DType::kF32, {8}, 2)});
  Target cuda = target_of(CpuLevel::kAmx, 1);
  cuda.kind = "cuda";
  cuda.cuda_arch = "sm_90a";
  EXPECT_EQ(sources_for(norm, cuda), (std::vector<std::string>{"cuda.rms_norm"}));
}

TEST(CpuSources, CompiledAttentionRunsInItsScratch) {
  const Attention op{4, 0.2f};
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const HostTensors inputs = attention_inputs(dtype), expected = AnyOp(op).evaluate(inputs);
    const Problem problem = problem_of(op, inputs);
    for (int threads : {1, 3}) {
      const Target target = target_of(cpu_features().level, threads);
      for (const TacticSource* source : tactic_list()) {
        const auto tactics = source->enumerate(problem, target);
        if (!std::holds_alternative<std::vector<std::string>>(tactics)) continue;
        const CompiledTactic tactic = source->compile(problem, std::get<0>(tactics)[0], target);
        ASSERT_EQ(tactic.steps.size(), 1u);
        ASSERT_EQ(tactic.steps[0].arguments.size(), 9u);
        const KernelRun run{tactic.steps[0].kernel, tactic.steps[0].parameters, threads, tactic.scratch_bytes};
        expect_close(run_kernel(run, op, inputs), expected, 1e-4, 2e-5, std::string(source->name()));
      }
    }
  }
}

}  // namespace
}  // namespace ingot
