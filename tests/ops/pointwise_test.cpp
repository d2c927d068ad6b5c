#include "ops/pointwise.h"

#include "ops/indexing.h"
#include "ops/tensors.h"

namespace ingot {
namespace {

TEST(Pointwise, AddsAndMultiplies) {
  HostTensor a = tensor("f32[2, 2]", {1, 2, 3, 4});
  expect_values(call(Add{}, {a, tensor("bf16[2, 2]", {10, 20, 30, 40})})[0], {11, 22, 33, 44});
  expect_values(call(Add{}, {a, tensor("f32[2]", {10, 20})})[0], {11, 22, 13, 24});
  expect_values(call(Multiply{}, {a, tensor("f32[2, 2]", {2, 3, 4, 5})})[0], {2, 6, 12, 20});
  expect_values(call(Multiply{}, {a, tensor("f32[2]", {2, 3})})[0], {2, 6, 6, 12});
}

TEST(Pointwise, ScalesAndCaps) {
  expect_values(call(Scale{2.5f}, {tensor("f32[2]", {2, -4})})[0], {5, -10});
  expect_values(call(SoftCap{30}, {tensor("f32[3]", {0, 15, -1e6})})[0], {0, 30 * std::tanh(0.5), -30});
}

TEST(Pointwise, AppliesFunctions) {
  auto at = [](ActivationFunction f, double x) { return call(Activation{f}, {tensor("f32[1]", {x})})[0].values[0]; };
  using enum ActivationFunction;
  EXPECT_EQ(at(kNone, -2), -2);
  EXPECT_NEAR(at(kSilu, 1), 0.7310585786300049, 1e-15);
  EXPECT_NEAR(at(kGelu, 1), 0.8413447460685429, 1e-15);
  EXPECT_NEAR(at(kGeluTanh, 1), 0.8411919906082768, 1e-15);
  EXPECT_NEAR(at(kQuickGelu, 1), 1 / (1 + std::exp(-1.702)), 1e-15);
  EXPECT_EQ(at(kRelu, -2), 0);
  EXPECT_EQ(at(kRelu, 2), 2);
  EXPECT_NEAR(at(kTanh, 0.5), 0.46211715726000976, 1e-15);
  EXPECT_NEAR(at(kSigmoid, 0), 0.5, 1e-15);
}

TEST(GatedActivation, OfOneInputEqualsThatOfTwo) {
  HostTensor both = noise("bf16[3, 10]");
  HostTensor gate = call(Slice{0, 5}, {both})[0], up = call(Slice{5, 10}, {both})[0];
  for (auto f : {ActivationFunction::kSilu, ActivationFunction::kGeluTanh}) {
    HostTensor two = call(GatedActivation{f}, {gate, up})[0];
    expect_near(call(GatedActivation{f}, {both})[0], two);
    expect_near(two, call(Multiply{}, {call(Activation{f}, {gate})[0], up})[0]);
  }
}

TEST(Cast, ChangesTheDtypeAlone) {
  HostTensor x = tensor("f32[2]", {1.00390625, 3});
  HostTensors y = AnyOp(Cast{DType::kBF16}).evaluate({x});
  EXPECT_EQ(print(y[0].type), "bf16[2]");
  expect_values(y[0], {1, 3});
  expect_values(call(Cast{DType::kBF16}, {x})[0], {1.00390625, 3});
}

TEST(Pointwise, TypesSymbolicRows) {
  EXPECT_EQ(inferred(Add{}, "f32[tokens, 8] bf16[8]"), "f32[tokens, 8]");
  EXPECT_EQ(inferred(GatedActivation{}, "f32[tokens, 8]"), "f32[tokens, 4]");
  EXPECT_EQ(inferred(GatedActivation{}, "f32[tokens, 8] f32[tokens, 8]"), "f32[tokens, 8]");
  EXPECT_EQ(inferred(Cast{DType::kF16}, "f32[8*tokens]"), "f16[8*tokens]");
}

TEST(Pointwise, RefusesWhatDoesNotFit) {
  expect_contains(infer_error(Add{}, "f32[2, 3] f32[2]"), "b, a float tensor of a's shape f32[2, 3]");
  expect_contains(infer_error(Add{}, "f32[2, 3, 4] f32[4]"), "b, a float tensor");
  expect_contains(infer_error(Multiply{}, "i32[2] i32[2]"), "a, a float tensor");
  expect_contains(infer_error(Multiply{}, "f32[2] i32[2]"), "b, a float tensor");
  expect_contains(infer_error(Scale{}, "i32[2]"), "x, a float tensor");
  expect_contains(infer_error(SoftCap{0}, "f32[2]"), "cap = 0");
  expect_contains(infer_error(GatedActivation{}, "f32[2, 7]"), "[rows, 2n]");
  expect_contains(infer_error(GatedActivation{}, "f32[2, tokens]"), "[rows, 2n]");
  expect_contains(infer_error(GatedActivation{}, "f32[2, 4] f32[2, 2]"), "up, a float tensor of gate's shape");
  expect_contains(infer_error(Cast{DType::kI32}, "f32[2]"), "dtype = i32");
}

}  // namespace
}  // namespace ingot
