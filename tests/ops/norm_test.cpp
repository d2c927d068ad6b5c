#include "ops/norm.h"

#include "ops/pointwise.h"
#include "ops/tensors.h"

namespace ingot {
namespace {

TEST(RmsNorm, DividesByTheRootMeanSquare) {
  // mean square 12.5
  HostTensors y = call(RmsNorm{0}, {tensor("f32[1, 2]", {3, 4}), tensor("f32[2]", {1, 10})});
  expect_values(y[0], {3 / std::sqrt(12.5), 40 / std::sqrt(12.5)});
}

TEST(RmsNorm, AddsEpsilonToTheMean) {
  expect_values(call(RmsNorm{3}, {tensor("f32[1, 2]", {1, 1}), tensor("f32[2]", {1, 1})})[0], {0.5, 0.5}, 1e-12);
  expect_values(call(RmsNorm{}, {tensor("f32[1, 2]", {0, 0}), tensor("f32[2]", {1, 1})})[0], {0, 0});
}

TEST(RmsNorm, NormsEveryHeadAlone) {
  HostTensor gamma = noise("f32[4]", 2), x = noise("bf16[3, 8]");
  HostTensor heads = x;
  heads.type = parse_type("bf16[6, 4]");
  expect_values(call(RmsNorm{}, {x, gamma})[0], call(RmsNorm{}, {heads, gamma})[0].values);
}

TEST(LayerNorm, CentersAndScales) {
  // mean 2, variance 1
  HostTensors in = {tensor("f32[1, 2]", {1, 3}), tensor("f32[2]", {2, 3}), tensor("f32[2]", {10, 20})};
  expect_values(call(LayerNorm{0}, in)[0], {8, 23});
  expect_values(call(LayerNorm{3}, in)[0], {9, 21.5});
}

TEST(AddNorms, EqualAddThenNorm) {
  HostTensor a = noise("f32[3, 5]"), b = noise("f32[3, 5]", 2), gamma = noise("f32[5]", 3), beta = noise("f32[5]", 4);
  HostTensor sum = call(Add{}, {a, b})[0];
  HostTensors rms = call(AddRmsNorm{1e-5f}, {a, b, gamma});
  expect_near(rms[0], sum);
  expect_near(rms[1], call(RmsNorm{1e-5f}, {sum, gamma})[0]);
  HostTensors layer = call(AddLayerNorm{}, {a, b, gamma, beta});
  expect_near(layer[0], sum);
  expect_near(layer[1], call(LayerNorm{}, {sum, gamma, beta})[0]);
}

TEST(Norms, TypeSymbolicRows) {
  EXPECT_EQ(inferred(RmsNorm{}, "bf16[tokens, 8] f32[8]"), "bf16[tokens, 8]");
  EXPECT_EQ(inferred(AddLayerNorm{}, "f32[tokens, 8] f32[tokens, 8] f32[8] f32[8]"), "f32[tokens, 8] f32[tokens, 8]");
}

TEST(Norms, RefuseWhatDoesNotFit) {
  expect_contains(infer_error(RmsNorm{}, "f32[2, 8] f32[3]"),
                  "found f32[3] where gamma, f32 [h] with h a divisor of 8");
  expect_contains(infer_error(RmsNorm{}, "f32[2, 8] f32[0]"), "gamma");
  expect_contains(infer_error(RmsNorm{}, "f32[2, 8] bf16[8]"), "gamma");
  expect_contains(infer_error(RmsNorm{}, "f32[2, tokens] f32[8]"), "x, a float matrix");
  expect_contains(infer_error(LayerNorm{}, "f32[2, 8] f32[4] f32[8]"), "gamma, f32[8]");
  expect_contains(infer_error(LayerNorm{}, "f32[2, 8] f32[8] f32[4]"), "beta, f32[8]");
  expect_contains(infer_error(AddRmsNorm{}, "f32[2, 8] f32[8] f32[8]"), "of a's shape");
  expect_contains(infer_error(AddRmsNorm{}, "f32[tokens, 8] f32[outputs, 8] f32[8]"), "of a's shape");
  expect_contains(infer_error(AddLayerNorm{}, "f32[2, 8] f32[2, 8] f32[8]"), "found 3 inputs, needed 4");
}

}  // namespace
}  // namespace ingot
