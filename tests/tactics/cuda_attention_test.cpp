// What the attention tactics for GPUs ask to be launched. What the kernels compute is tested by conformance.
#include <gtest/gtest.h>

#include "kernels/cuda/module_launch.h"
#include "kernels/cuda/size_expression.h"
#include "kernels/kernel_parameters.h"
#include "tactics/cuda/attention.h"

namespace ingot {
namespace {

Problem problem_of(int64_t tokens, int64_t sequences, std::string_view dtype = "bf16",
                   std::string_view state = "16, 128") {
  return parse_problem(
      format("attention {0}[{1}, 4096] {0}[64, 8, {3}] {0}[64, 8, {3}] i32[{4}] i32[{2}] i32[{4}] "
             "i32[64] i32[{2}] {{heads = 32, scale = 0.088388346}}",
             dtype, tokens, sequences, state, sequences + 1));
}

Target target_of(std::string_view arch) {
  return {.kind = "cuda", .cuda_arch = std::string(arch), .multiprocessors = 132};
}

std::vector<std::string> configs(const TacticSource* source, const Problem& problem, std::string_view arch) {
  auto offered = source->enumerate(problem, target_of(arch));
  return std::holds_alternative<Unsupported>(offered) ? std::vector<std::string>{} : std::get<0>(offered);
}

std::string refusal(const TacticSource* source, const Problem& problem, std::string_view arch) {
  auto offered = source->enumerate(problem, target_of(arch));
  return std::holds_alternative<Unsupported>(offered) ? std::get<Unsupported>(offered).reason : "accepted";
}

// The blocks of a step's grid when a step has these tokens and sequences.
int64_t blocks(const CompiledStep& step, const Problem& problem, int64_t tokens, int64_t sequences) {
  std::vector<Argument> arguments;
  for (const Types* types : {&problem.inputs, &problem.outputs})
    for (const TensorType& type : *types) {
      Argument& argument = arguments.emplace_back();
      argument.rank = static_cast<int>(type.rank());
      for (size_t axis = 0; axis < type.shape.size(); ++axis) argument.size[axis] = type.shape[axis].constant();
    }
  arguments[0].size[0] = tokens;
  arguments[4].size[0] = sequences;
  auto launch = parse_kernel_parameters<ModuleLaunch>(step.parameters);
  return SizeExpression::parse(launch.grid[0]).evaluate(arguments, 132);
}

TEST(CudaAttention, AStepOfDecodesStartsNoChunkKernel) {
  const Problem problem = problem_of(300, 4);
  for (const TacticSource* source :
       {cuda_attention_sm90_source(), cuda_attention_mma_source(), cuda_attention_source()})
    for (const std::string& config : configs(source, problem, "sm_90a")) {
      SCOPED_TRACE(format("{} {}", source->name(), config));
      const CompiledTactic tactic = source->compile(problem, config, target_of("sm_90a"));
      const CompiledStep& chunk = tactic.steps.back();
      ASSERT_NE(chunk.parameters.find("attention_chunk"), std::string::npos);
      EXPECT_EQ(blocks(chunk, problem, 4, 4), 0);
      EXPECT_EQ(blocks(chunk, problem, 2, 4), 0);
      // Four query heads a kv head: at least one block for every 192 rows, and one more for every sequence.
      EXPECT_GE(blocks(chunk, problem, 300, 4), 8 * (4 * 300 / 192 + 4));
      EXPECT_GT(blocks(tactic.steps.front(), problem, 300, 4), 0);
    }
}

TEST(CudaAttention, ScratchHoldsAPartForEveryDecodeThatAStepCanHave) {
  for (auto [tokens, sequences] : {std::pair<int64_t, int64_t>{1, 256}, {2, 256}, {4000, 2}}) {
    const Problem problem = problem_of(tokens, sequences);
    const CompiledTactic tactic =
        cuda_attention_mma_source()->compile(problem, "{splits = 16, stages = 3, chunk_warps = 4}", target_of("sm_80"));
    ASSERT_EQ(tactic.steps.size(), 3u);
    EXPECT_EQ(tactic.scratch_bytes, std::min(tokens, sequences) * 8 * 16 * (4 * 128 * 4 + 4 * 8));
  }
  const CompiledTactic clustered = cuda_attention_sm90_source()->compile(
      problem_of(1, 256), configs(cuda_attention_sm90_source(), problem_of(1, 1), "sm_90a")[0], target_of("sm_90a"));
  EXPECT_EQ(clustered.steps.size(), 2u);
  EXPECT_EQ(clustered.scratch_bytes, 0);
}

TEST(CudaAttention, SaysWhatItNeeds) {
  EXPECT_EQ(refusal(cuda_attention_sm90_source(), problem_of(4, 4), "sm_80"), "needs sm_90a");
  EXPECT_EQ(refusal(cuda_attention_mma_source(), problem_of(4, 4), "sm_80"), "accepted");
  EXPECT_EQ(refusal(cuda_attention_mma_source(), problem_of(4, 4, "f32"), "sm_80"), "needs bf16 or f16 states");
  EXPECT_EQ(refusal(cuda_attention_source(), problem_of(4, 4, "f32"), "sm_80"), "accepted");
  EXPECT_EQ(refusal(cuda_attention_sm90_source(), problem_of(4, 4, "bf16", "12, 128"), "sm_90a"),
            "found pages of 12 positions: needs multiples of 8");
}

}  // namespace
}  // namespace ingot
