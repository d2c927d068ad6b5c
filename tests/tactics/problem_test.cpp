#include <gtest/gtest.h>

#include "ops/matmul.h"
#include "tactics/tactic.h"

namespace ingot {
namespace {

std::string error_of(std::string_view text) {
  try {
    parse_problem(text);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Problem, PrintsWhatItParsed) {
  for (std::string_view text : {
           "matmul f32[16, 4096] bf16[14336, 4096]",
           "matmul f32[16, 64] bf16[128, 64] f32[128] {bias = true}",
           "matmul f32[2, 64] bf16[8, 64] f32[8] f32[2, 8] {bias = true, function = gelu_tanh, residual = true}",
           "rms_norm f32[3, 64] f32[64] {epsilon = 1e-05}",
           "add f32[37] f32[37]",
           "embedding i32[5] bf16[300, 64]",
           "kv_write f32[6, 2, 16, 64] f32[5, 128] i32[5]",
       }) {
    Problem problem = parse_problem(text);
    EXPECT_EQ(problem.key(), text);
    EXPECT_EQ(parse_problem(problem.key()).outputs, problem.outputs);
  }
}

TEST(Problem, LeavesOutDefaultsAndSpaces) {
  EXPECT_EQ(parse_problem(" rms_norm  f32[3,64]  f32[64] {epsilon = 1e-06}  # comment").key(),
            "rms_norm f32[3, 64] f32[64]");
}

TEST(Problem, InfersOutputs) {
  Problem problem = parse_problem("matmul bf16[16, 64] f16[128, 64]");
  ASSERT_EQ(problem.outputs.size(), 1u);
  EXPECT_EQ(print(problem.outputs[0]), "bf16[16, 128]");
  EXPECT_TRUE(problem.op.is<Matmul>());
  EXPECT_EQ(parse_problem("route f32[3, 8] {top_k = 2}").outputs.size(), 2u);
}

TEST(Problem, NamesWhatIsWrong) {
  EXPECT_NE(error_of("matmull f32[1, 2] f32[3, 2]").find("the nearest is \"matmul\""), std::string::npos);
  EXPECT_NE(error_of("matmul f32[1, 2] f32[3, 4]").find("found f32[3, 4] where w"), std::string::npos);
  EXPECT_NE(error_of("matmul f32[1, 2]").find("found 1 inputs, needed 2"), std::string::npos);
  EXPECT_NE(error_of("matmul f32[1, 2] f32[3, 2] {bais = true}").find("bais"), std::string::npos);
  EXPECT_NE(error_of("matmul f32[1, 2] f32[3, 2] {} more").find("the end of the problem"), std::string::npos);
  EXPECT_NE(error_of("").find("the name of an op"), std::string::npos);
}

TEST(Problem, NeedsConstantRowMajorSizes) {
  EXPECT_NE(error_of("matmul f32[tokens, 2] f32[3, 2]").find("constant sizes"), std::string::npos);
  EXPECT_NE(error_of("matmul f32[1, 2] f32[3, 2]@tiles").find("row-major"), std::string::npos);
  EXPECT_NE(error_of("matmul f32[-1, 2] f32[3, 2]").find("constant sizes"), std::string::npos);
  EXPECT_NE(error_of("scale f32[4611686018427387904, 4]").find("overflows"), std::string::npos);
  EXPECT_NE(error_of("scale f32[4611686018427387904]").find("overflows"), std::string::npos);
}

}  // namespace
}  // namespace ingot
