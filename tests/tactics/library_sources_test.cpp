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
  expect("matmul f32[4, 64] bf16[32, 64] {function = silu, gated = true}", "equal dtypes");
  // Products are f32 until they are gated.
  expect("matmul bf16[4, 64] bf16[32, 64] bf16[32] {bias = true, gated = true}",
         "the bias is bf16: needs the result's f32");
  EXPECT_EQ(refusal_of("matmul bf16[4, 64] bf16[32, 64]", parse_target("cpu", 1)), "needs a cuda target");
  EXPECT_EQ(refusal_of("add bf16[4, 64] bf16[4, 64]"), "");  // for other ops, without a reason
}

TEST(CublasltSource, NeedsAGpuToAskTheLibrary) {
  if (cuda::Device::missing().empty()) GTEST_SKIP() << "there is a GPU";
  for (const char* problem : {"matmul bf16[4, 64] bf16[32, 64]", "matmul f32[4, 64] f32[32, 64]",
                              "matmul f16[4, 64] f16[32, 64] {wide = true}",
                              "matmul bf16[4, 64] bf16[32, 64] bf16[32] {bias = true, function = gelu_tanh}",
                              "matmul bf16[4, 64] bf16[32, 64] bf16[4, 32] {residual = true}",
                              "matmul f32[4, 64] f32[32, 64] {function = gelu_tanh, gated = true}",
                              "matmul bf16[4, 64] bf16[32, 64] f32[32] {bias = true, function = silu, gated = true}",
                              "matmul f16[4, 64] f16[32, 64] {function = silu, wide = true, gated = true}"})
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

CublasltMatmul compiled_gate(const std::string& problem, CompiledTactic& tactic) {
  tactic = cublaslt_matmul_source()->compile(parse_problem(problem), config("", 130100, 1000), hopper());
  EXPECT_EQ(tactic.steps.size(), 1u);
  return parse_kernel_parameters<CublasltMatmul>(tactic.steps.at(0).parameters);
}

TEST(CublasltSource, GatesProductsByAKernelOfOurOwn) {
  CompiledTactic tactic;
  const CublasltMatmul parameters =
      compiled_gate("matmul bf16[100, 64] bf16[32, 64] {function = silu, gated = true}", tactic);
  EXPECT_EQ(tactic.steps[0].arguments, (std::vector{0, 1, 2}));
  EXPECT_TRUE(parameters.gated);
  EXPECT_EQ(parameters.gate_kernel, "cuda.module");
  EXPECT_GE(parameters.rows_at_once, 100);
  // The f32 products of 100 rows lie behind the workspace.
  EXPECT_GE(tactic.scratch_bytes, 1024 + 100 * 32 * 4);
  // The engine gets the code of the gate and that of the fallback.
  ASSERT_EQ(tactic.modules.size(), 1 + parameters.fallback_kernels.size());
  EXPECT_EQ(tactic.modules.back().file, "pointwise.cuh");
  EXPECT_NE(parameters.gate_parameters.find(tactic.modules.back().name()), std::string::npos);
  if (compiler_version().empty()) GTEST_SKIP() << why_no_compiler();
  EXPECT_NO_THROW(compile_module(tactic.modules.back()));
}

TEST(CublasltSource, ProductsOfManyRowsTakeTurnsInLittleMemory) {
  CompiledTactic tactic;
  const CublasltMatmul parameters =
      compiled_gate("matmul f32[8192, 64] f32[28672, 64] {function = silu, gated = true}", tactic);
  EXPECT_EQ(parameters.rows_at_once, 512);
  EXPECT_LE(tactic.scratch_bytes, (int64_t{64} << 20) + 1024);
  const CublasltMatmul wide =
      compiled_gate("matmul f32[8192, 64] f32[600000, 64] {function = silu, gated = true}", tactic);
  EXPECT_EQ(wide.rows_at_once, 128);
}

}  // namespace
}  // namespace ingot
