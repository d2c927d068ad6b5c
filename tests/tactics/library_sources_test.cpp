// The source of cuBLASLt on a machine that has none: what it refuses, what it makes of a timing cache, and what it
// compiles.
#include <gtest/gtest.h>

#include "device/cuda/device.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/kernel_parameters.h"
#include "tactics/library/cublaslt_matmul.h"

namespace ingot {
namespace {

const Target& hopper() {
  static const Target target = parse_target("cuda:sm_90a", 1);
  return target;
}

std::string refusal_of(const std::string& problem, const Target& target = hopper()) {
  const auto offered = cublaslt_matmul_source()->enumerate(parse_problem(problem), target);
  const auto* refused = std::get_if<Unsupported>(&offered);
  return refused ? refused->reason : "";
}

std::string config(const std::string& algorithm, int64_t version, int64_t workspace_bytes = 65536) {
  return print_fields(CublasltChoice{.algorithm = algorithm, .workspace_bytes = workspace_bytes, .version = version});
}

const std::string kFirst = "0000000000000042", kSecond = "0000000000000041";

TEST(CublasltSource, SaysWhatTheLibraryCannotCompute) {
  const auto expect = [](const std::string& problem, const std::string& words) {
    EXPECT_NE(refusal_of(problem).find(words), std::string::npos) << problem << ": " << refusal_of(problem);
  };
  expect("matmul f32[4, 64] bf16[32, 64]", "equal dtypes");
  expect("matmul bf16[4, 64] bf16[32, 64] f32[32] {bias = true}", "the bias is f32");
  expect("matmul bf16[4, 64] bf16[32, 64] {function = silu}", "has no silu");
  expect("matmul bf16[4, 64] bf16[32, 64] {function = gelu}", "has no gelu");
  expect("matmul f32[4, 64] f32[32, 64] {function = gelu_tanh}", "not good enough for f32");
  expect("matmul bf16[4, 64] bf16[32, 64] {function = gelu_tanh, wide = true}", "not good enough for f32");
  expect("matmul bf16[4, 64] bf16[32, 64] bf16[4, 32] {function = relu, residual = true}", "after it has added");
  expect("matmul bf16[0, 64] bf16[32, 64]", "empty");
  EXPECT_EQ(refusal_of("matmul bf16[4, 64] bf16[32, 64]", parse_target("cpu", 1)), "needs a cuda target");
  EXPECT_EQ(refusal_of("add bf16[4, 64] bf16[4, 64]"), "");  // for other ops, without a reason
}

TEST(CublasltSource, NeedsAGpuToAskTheLibrary) {
  if (cuda::Device::missing().empty()) GTEST_SKIP() << "there is a GPU";
  for (const char* problem : {"matmul bf16[4, 64] bf16[32, 64]", "matmul f32[4, 64] f32[32, 64]",
                              "matmul f16[4, 64] f16[32, 64] {wide = true}",
                              "matmul bf16[4, 64] bf16[32, 64] bf16[32] {bias = true, function = gelu_tanh}",
                              "matmul bf16[4, 64] bf16[32, 64] bf16[4, 32] {residual = true}"})
    EXPECT_TRUE(refusal_of(problem).starts_with("needs an NVIDIA GPU")) << problem << ": " << refusal_of(problem);
}

TEST(CublasltSource, RecallsTheNewestVersionInAFixedOrder) {
  if (cuda::Device::missing().empty()) GTEST_SKIP() << "the library that is here decides the version";
  const Problem problem = parse_problem("matmul bf16[4, 64] bf16[32, 64]");
  const std::vector<std::string> known = {config(kFirst, 130100),
                                          config(kSecond, 130100),
                                          config(kFirst, 130000),
                                          config("", 130100),
                                          "{algorithm = nonsense, version = 130100}",
                                          "garbage",
                                          "{version = 130100} more",
                                          "{version = 130100, workspace_bytes = -1}"};
  const std::vector<std::string> recalled = cublaslt_matmul_source()->recall(problem, hopper(), known);
  EXPECT_EQ(recalled, (std::vector{config("", 130100), config(kSecond, 130100), config(kFirst, 130100)}));
  EXPECT_TRUE(cublaslt_matmul_source()->recall(problem, hopper(), {}).empty());
  // Entries for a problem that the source would refuse today are nothing to build on.
  const Problem refused = parse_problem("matmul bf16[4, 64] bf16[32, 64] {function = silu}");
  EXPECT_TRUE(cublaslt_matmul_source()->recall(refused, hopper(), known).empty());
}

TEST(CublasltSource, CompilesFromTheConfigurationAlone) {
  const Problem problem =
      parse_problem("matmul bf16[4, 64] bf16[32, 64] bf16[32] bf16[4, 32] {bias = true, residual = true}");
  const std::string text = config(kFirst, 130100, 1 << 20);
  const CompiledTactic tactic = cublaslt_matmul_source()->compile(problem, text, hopper());
  ASSERT_EQ(tactic.steps.size(), 1u);
  EXPECT_EQ(tactic.steps[0].kernel, "cuda.cublaslt");
  EXPECT_EQ(tactic.steps[0].arguments, (std::vector{0, 1, 2, 3, 4}));
  EXPECT_EQ(tactic.input_layouts, std::vector<std::string>(4));
  EXPECT_GE(tactic.scratch_bytes, 1 << 20);
  const auto parameters = parse_kernel_parameters<CublasltMatmul>(tactic.steps[0].parameters);
  EXPECT_TRUE(parameters.bias && parameters.residual);
  EXPECT_EQ(parameters.algorithm, kFirst);
  EXPECT_EQ(parameters.version, 130100);
  // The fallback is one of our own kernels, and the engine gets its code.
  ASSERT_FALSE(parameters.fallback_kernels.empty());
  for (const std::string& kernel : parameters.fallback_kernels) EXPECT_EQ(kernel, "cuda.module");
  EXPECT_FALSE(tactic.modules.empty());
  EXPECT_EQ(cublaslt_matmul_source()->compile(problem, text, hopper()).steps[0].parameters, tactic.steps[0].parameters);
}

}  // namespace
}  // namespace ingot
