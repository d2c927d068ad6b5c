#include "ops/pointwise_chain.h"

#include "ops/pointwise.h"
#include "ops/tensors.h"

namespace ingot {
namespace {

TEST(PointwiseChain, AppliesItsStepsInTurn) {
  HostTensor x = tensor("f32[2, 2]", {1, 2, 3, -4});
  HostTensor row = tensor("f32[2]", {10, 20}), full = tensor("bf16[2, 2]", {2, 3, 4, 5});
  expect_values(call(PointwiseChain{"add, multiply, scale(0.5)"}, {x, row, full})[0], {11, 33, 26, 40});
  expect_values(call(PointwiseChain{"multiply, add, activation(relu)"}, {x, full, row})[0], {12, 26, 22, 0});
  expect_values(call(PointwiseChain{"soft_cap(2), scale(-1)"}, {x})[0],
                {-2 * std::tanh(0.5), -2 * std::tanh(1.0), -2 * std::tanh(1.5), 2 * std::tanh(2.0)});
}

TEST(PointwiseChain, RoundsTheResultAlone) {
  // 257 is no bf16.
  HostTensor x = tensor("f32[1]", {257});
  expect_values(AnyOp(PointwiseChain{"cast(bf16), scale(2), cast(f32)"}).evaluate({x})[0], {514});
  expect_values(AnyOp(PointwiseChain{"cast(f32), cast(bf16)"}).evaluate({x})[0], {256});
}

TEST(PointwiseChain, ResultHasTheDtypeOfTheLastCast) {
  EXPECT_EQ(inferred(PointwiseChain{"add, scale(2)"}, "bf16[tokens, 8] f32[tokens, 8]"), "bf16[tokens, 8]");
  EXPECT_EQ(inferred(PointwiseChain{"cast(f32), scale(2), cast(f16)"}, "bf16[tokens, 8]"), "f16[tokens, 8]");
}

TEST(PointwiseChain, RowsOfVectorsServeAll) {
  PointwiseChain op{"add, multiply"};
  Types inputs = types_of({noise("f32[3, 4]"), noise("f32[4]"), noise("f32[3, 4]")});
  EXPECT_EQ(op.row_inputs(inputs), (std::vector<bool>{true, false, true}));
}

TEST(PointwiseChain, TextOfStepsComesBack) {
  std::string steps = "add, multiply, scale(0.1), soft_cap(30), activation(gelu_tanh), cast(bf16)";
  EXPECT_EQ(print_chain_steps(parse_chain_steps(steps)), steps);
}

TEST(PointwiseChain, SaysWhatDoesNotFit) {
  expect_contains(infer_error(PointwiseChain{""}, "f32[2]"), "a step");
  expect_contains(infer_error(PointwiseChain{"rms_norm"}, "f32[2]"), "\"rms_norm\" is no step of a chain");
  expect_contains(infer_error(PointwiseChain{"scale"}, "f32[2]"), "(");
  expect_contains(infer_error(PointwiseChain{"scale(2) add"}, "f32[2] f32[2]"), "a comma or the end");
  expect_contains(infer_error(PointwiseChain{"add"}, "f32[2]"), "found 1 inputs, needed 2");
  expect_contains(infer_error(PointwiseChain{"scale(2)"}, "f32[2] f32[2]"), "found 2 inputs, needed 1");
  expect_contains(infer_error(PointwiseChain{"add, add, add, add"}, "f32[2] f32[2] f32[2] f32[2] f32[2]"), "at most 4");
  expect_contains(infer_error(PointwiseChain{"scale(2), add"}, "f32[2, 4] f32[3]"), "a's shape");
  expect_contains(infer_error(PointwiseChain{"soft_cap(0)"}, "f32[2]"), "cap = 0");
  expect_contains(infer_error(PointwiseChain{"cast(i32)"}, "f32[2]"), "float dtype");
}

}  // namespace
}  // namespace ingot
