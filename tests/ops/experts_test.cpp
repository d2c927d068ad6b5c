#include "ops/experts.h"

#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "ops/tensors.h"

namespace ingot {
namespace {

TEST(Route, PicksTheMostProbable) {
  HostTensor logits = tensor("f32[1, 4]", {std::log(2), std::log(5), std::log(1), std::log(2)});
  HostTensors y = AnyOp(Route{3, false}).evaluate({logits}, false);
  expect_values(y[0], {1, 0, 3});  // equal ones by index
  expect_values(y[1], {0.5, 0.2, 0.2}, 1e-7);
  expect_values(AnyOp(Route{3, true}).evaluate({logits}, false)[1], {5.0 / 9, 2.0 / 9, 2.0 / 9}, 1e-7);
}

TEST(Route, SurvivesLargeLogits) {
  expect_values(call(Route{2}, {tensor("f32[1, 3]", {1000, 999, -1000})})[1],
                {1 / (1 + std::exp(-1)), 1 / (1 + std::exp(1))});
}

TEST(ExpertMlp, EqualsWeightedDenseLayers) {
  HostTensor x = noise("f32[2, 3]"), gate_up = noise("bf16[4, 4, 3]", 2), down = noise("bf16[4, 3, 2]", 3);
  HostTensor ids = tensor("i32[2, 2]", {3, 0, 1, 3}), weights = tensor("f32[2, 2]", {0.25, 0.75, 0.5, 2});
  HostTensor y = call(ExpertMlp{}, {x, ids, weights, gate_up, down})[0];
  for (size_t t = 0; t < 2; ++t) {
    HostTensor row = tensor("f32[1, 3]", {x.values[t * 3], x.values[t * 3 + 1], x.values[t * 3 + 2]});
    std::vector<double> wanted(3);
    for (size_t j = 0; j < 2; ++j) {
      auto part = [&](const HostTensor& w, std::string_view type) {
        HostTensor slice(parse_type(type));
        size_t size = slice.values.size();
        std::copy_n(w.values.begin() + static_cast<int64_t>(ids.values[t * 2 + j] * static_cast<double>(size)), size,
                    slice.values.begin());
        return slice;
      };
      HostTensor inner = call(Matmul{}, {row, part(gate_up, "bf16[4, 3]")})[0];
      inner = call(GatedActivation{}, {inner})[0];
      HostTensor out = call(Matmul{}, {inner, part(down, "bf16[3, 2]")})[0];
      for (size_t i = 0; i < 3; ++i) wanted[i] += weights.values[t * 2 + j] * out.values[i];
    }
    for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(y.values[t * 3 + i], wanted[i], 1e-12);
  }
}

TEST(ExpertMlp, RefusesUnknownExperts) {
  HostTensors in = {noise("f32[1, 3]"), tensor("i32[1, 1]", {4}), tensor("f32[1, 1]", {1}), noise("f32[4, 4, 3]"),
                    noise("f32[4, 3, 2]")};
  EXPECT_THROW(AnyOp(ExpertMlp{}).evaluate(in), Error);
}

TEST(Experts, TypeSymbolicTokens) {
  EXPECT_EQ(inferred(Route{2}, "bf16[tokens, 8]"), "i32[tokens, 2] f32[tokens, 2]");
  EXPECT_EQ(inferred(ExpertMlp{}, "bf16[t, 3] i32[t, 2] f32[t, 2] f16[4, 10, 3] f16[4, 3, 5]"), "bf16[t, 3]");
}

TEST(Experts, RefuseWhatDoesNotFit) {
  expect_contains(infer_error(Route{9}, "f32[t, 8]"), "top_k = 9 where 1 to 8");
  expect_contains(infer_error(Route{0}, "f32[t, 8]"), "top_k = 0");
  expect_contains(infer_error(ExpertMlp{}, "f32[t, 3] i32[s, 2] f32[s, 2] f32[4, 10, 3] f32[4, 3, 5]"),
                  "ids, i32[t, top_k]");
  expect_contains(infer_error(ExpertMlp{}, "f32[t, 3] i32[t, 2] f32[t, 1] f32[4, 10, 3] f32[4, 3, 5]"), "weights, f32");
  expect_contains(infer_error(ExpertMlp{}, "f32[t, 3] i32[t, 2] f32[t, 2] f32[4, 9, 3] f32[4, 3, 5]"), "gate_up");
  expect_contains(infer_error(ExpertMlp{}, "f32[t, 3] i32[t, 2] f32[t, 2] f32[4, 10, 3] f32[4, 3, 4]"),
                  "down, float [4, 3, 5]");
}

TEST(ExpertMlp, CountsOperations) {
  Types types = {parse_type("f32[2, 3]"), parse_type("i32[2, 2]"), parse_type("f32[2, 2]"), parse_type("f32[4, 10, 3]"),
                 parse_type("f32[4, 3, 5]")};
  EXPECT_EQ(ExpertMlp{}.flops(types), 2.0 * 2 * 2 * (30 + 15));
}

}  // namespace
}  // namespace ingot
