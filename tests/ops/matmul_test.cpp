#include "ops/matmul.h"

#include "ops/pointwise.h"
#include "ops/tensors.h"

namespace ingot {
namespace {

TEST(Matmul, MultipliesByRowsOfTheWeight) {
  HostTensors y = call(Matmul{}, {tensor("f32[2, 3]", {1, 2, 3, 4, 5, 6}), tensor("bf16[2, 3]", {1, 0, -1, 2, 1, 0})});
  expect_values(y[0], {-2, 4, -2, 13});
  EXPECT_EQ(print(y[0].type), "f32[2, 2]");
}

TEST(Matmul, AppliesBiasThenFunctionThenResidual) {
  Matmul op{true, ActivationFunction::kRelu, true};
  HostTensors y = call(op, {tensor("f32[1, 1]", {2}), tensor("f32[2, 1]", {3, -3}), tensor("f32[2]", {1, 1}),
                            tensor("f32[1, 2]", {10, 20})});
  expect_values(y[0], {17, 20});
}

TEST(Matmul, EqualsItsPartsInSequence) {
  HostTensor x = noise("f32[5, 7]"), w = noise("f16[3, 7]", 2), bias = noise("f32[3]", 3), r = noise("f32[5, 3]", 4);
  HostTensor parts = call(Matmul{}, {x, w})[0];
  parts = call(Add{}, {parts, bias})[0];
  parts = call(Activation{ActivationFunction::kGelu}, {parts})[0];
  parts = call(Add{}, {parts, r})[0];
  expect_near(call(Matmul{true, ActivationFunction::kGelu, true}, {x, w, bias, r})[0], parts);
}

TEST(Matmul, ComputesSingleElements) {
  HostTensors in = {noise("f32[5, 9]"), noise("bf16[4, 9]", 2), noise("f32[4]", 3), noise("f32[5, 4]", 4)};
  std::vector<std::vector<std::byte>> bytes;
  std::vector<TensorView> views;
  for (const HostTensor& t : in) bytes.push_back(t.bytes());
  for (size_t i = 0; i < in.size(); ++i) views.push_back({in[i].type, bytes[i].data()});
  for (bool bias : {false, true}) {
    for (bool residual : {false, true}) {
      HostTensors some = {in[0], in[1]};
      std::vector<TensorView> some_views = {views[0], views[1]};
      if (bias) some.push_back(in[2]), some_views.push_back(views[2]);
      if (residual) some.push_back(in[3]), some_views.push_back(views[3]);
      AnyOp op = Matmul{bias, ActivationFunction::kSilu, residual};
      HostTensor y = call(op, some)[0];
      for (int64_t i = 0; i < 20; ++i) EXPECT_EQ(op.evaluate_at(some_views, 0, i), y.values[static_cast<size_t>(i)]);
    }
  }
}

TEST(Matmul, CountsOperations) {
  EXPECT_EQ(Matmul{}.flops({parse_type("f32[5, 7]"), parse_type("f32[3, 7]")}), 2.0 * 5 * 7 * 3);
}

TEST(Matmul, TypesSymbolicRows) {
  EXPECT_EQ(inferred(Matmul{}, "bf16[tokens, 8] f32[16, 8]"), "bf16[tokens, 16]");
  EXPECT_EQ(inferred(Matmul{true}, "bf16[tokens, 8] f32[16, 8] bf16[16]"), "bf16[tokens, 16]");
  EXPECT_EQ(inferred(Matmul{false, ActivationFunction::kNone, true}, "f32[tokens, 8] f32[16, 8] f32[tokens, 16]"),
            "f32[tokens, 16]");
}

TEST(Matmul, RefusesWhatDoesNotFit) {
  expect_contains(infer_error(Matmul{}, "f32[2, 3] f32[4, 5]"), "found f32[4, 5] where w, a float matrix [n, 3]");
  expect_contains(infer_error(Matmul{}, "f32[2] f32[4, 2]"), "x, a float matrix");
  expect_contains(infer_error(Matmul{}, "i32[1, 2] f32[4, 2]"), "x, a float matrix");
  expect_contains(infer_error(Matmul{}, "f32[1, tokens] f32[4, 2]"), "with x's k");
  expect_contains(infer_error(Matmul{true}, "f32[2, 3] f32[4, 3]"), "found 2 inputs, needed 3");
  expect_contains(infer_error(Matmul{}, "f32[2, 3] f32[4, 3] f32[4]"), "found 3 inputs, needed 2");
  expect_contains(infer_error(Matmul{true}, "f32[2, 3] f32[4, 3] bf16[4]"), "the bias, f32 or f32 [4]");
  expect_contains(infer_error(Matmul{true}, "f32[2, 3] f32[4, 3] f32[3]"), "the bias");
  expect_contains(infer_error(Matmul{false, ActivationFunction::kNone, true}, "f32[2, 3] f32[4, 3] bf16[2, 4]"),
                  "the residual, f32[2, 4]");
}

// 1 + 2^-9 is no bf16 number: the narrow result rounds it away.
TEST(Matmul, WideKeepsTheSumsOfNarrowInputs) {
  HostTensor x = tensor("bf16[1, 2]", {1, 0x1p-9}), w = tensor("bf16[1, 2]", {1, 1}),
             r = tensor("f32[1, 1]", {0x1p-20});
  expect_values(AnyOp(Matmul{}).evaluate({x, w})[0], {1});
  HostTensor y = AnyOp(Matmul{.wide = true}).evaluate({x, w})[0];
  expect_values(y, {1 + 0x1p-9});
  EXPECT_EQ(print(y.type), "f32[1, 1]");
  expect_values(call(Matmul{.residual = true, .wide = true}, {x, w, r})[0], {1 + 0x1p-9 + 0x1p-20});
}

TEST(Matmul, WideTypes) {
  Matmul wide{.bias = true, .residual = true, .wide = true};
  EXPECT_EQ(inferred(wide, "bf16[tokens, 8] bf16[4, 8] bf16[4] f32[tokens, 4]"), "f32[tokens, 4]");
  EXPECT_EQ(inferred(wide, "f16[tokens, 8] f32[4, 8] f32[4] f32[tokens, 4]"), "f32[tokens, 4]");
  expect_contains(infer_error(wide, "bf16[2, 8] bf16[4, 8] f32[4] bf16[2, 4]"), "the residual, f32[2, 4]");
  expect_contains(infer_error(Matmul{.wide = true}, "f32[2, 8] bf16[4, 8]"),
                  "found f32[2, 8] where x, f16 or bf16 because the result is wide,");
}

}  // namespace
}  // namespace ingot
