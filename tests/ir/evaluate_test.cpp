#include "ir/evaluate.h"

#include <gtest/gtest.h>

#include "ir/text.h"

namespace ingot {
namespace {

HostTensor matrix(std::vector<double> values, int64_t columns) {
  int64_t rows = static_cast<int64_t>(values.size()) / columns;
  return {{DType::kF32, {rows, columns}, ""}, std::move(values)};
}

HostTensor zeros(std::string_view type) { return HostTensor(parse_type(type)); }

HostTensor leaf(std::string_view name) {
  if (name == "w") return {{DType::kF32, {1, 2}, ""}, {1.0 / 3, 2}};
  fail(ErrorCode::kRuntime, "no leaf {}", name);
}

constexpr std::string_view kNetwork = R"ir(
%x: f32[tokens, 2] = input x
%w: bf16[1, 2] = weight w {recipe = "cast(w, bf16)"}
%0: f32[tokens, 1] = matmul(%x, %w)  # product
%1: f32[tokens, 1] = scale(%0) {factor = 2}
output a = %0
output b = %1
)ir";

TEST(Evaluate, RoundsToTheDtypes) {
  Evaluation result = evaluate(parse_network(kNetwork), {{"x", matrix({3, 1, 0, 1}, 2)}}, leaf);
  double third = rounded(DType::kBF16, 1.0 / 3);
  EXPECT_EQ(result.outputs.at("a").values, (std::vector<double>{rounded(DType::kF32, 3 * third + 2), 2}));
  EXPECT_EQ(result.outputs.at("b").type, (TensorType{DType::kF32, {2, 1}, ""}));
  EXPECT_TRUE(result.recorded.empty());
}

TEST(Evaluate, UnroundedKeepsDoubles) {
  EvaluateOptions options{.round = false, .record = false, .dims = {}};
  Evaluation result = evaluate(parse_network(kNetwork), {{"x", matrix({3, 1}, 2)}}, leaf, options);
  EXPECT_EQ(result.outputs.at("a").values, (std::vector<double>{3 * (1.0 / 3) + 2}));
  EXPECT_EQ(result.outputs.at("a").type.dtype, DType::kF64);
}

TEST(Evaluate, RecordsByOrigin) {
  Network network = parse_network(kNetwork);
  network.mutable_node({2, 0}).origins[0] = {"product", "same"};
  Evaluation result = evaluate(network, {{"x", matrix({3, 1}, 2)}}, leaf, {.round = true, .record = true, .dims = {}});
  EXPECT_EQ(result.recorded.size(), 2u);
  EXPECT_EQ(result.recorded.at("same").values, result.outputs.at("a").values);
}

TEST(Evaluate, StatesBeginAsZerosOrAsGiven) {
  Network network = parse_network(R"(
group full {page_size = 2}
%s: i32[tokens] = input slots
%x: f32[tokens, 1] = input x
%k: f32[pool_pages, 1, 2, 1] = state k {group = full}
%0: f32[pool_pages, 1, 2, 1] = kv_write(%k, %x, %s)
output k = %0
)");
  NamedTensors inputs;
  inputs["slots"] = {{DType::kI32, {2}, ""}, {2, -1}};
  inputs["x"] = matrix({5, 6}, 1);
  EvaluateOptions options;
  options.dims["pool_pages"] = 2;
  EXPECT_EQ(evaluate(network, inputs, leaf, options).outputs.at("k").values, (std::vector<double>{0, 0, 5, 0}));
  inputs["k"] = {{DType::kF32, {2, 1, 2, 1}, ""}, {1, 2, 3, 4}};
  EXPECT_EQ(evaluate(network, inputs, leaf).outputs.at("k").values, (std::vector<double>{1, 2, 5, 4}));
  inputs.erase("k");
  EXPECT_THROW(evaluate(network, inputs, leaf), Error) << "pool_pages has no value";
}

std::string error_of(const NamedTensors& inputs) {
  Network network = parse_network(R"(
%x: f32[tokens, 2] = input x
%y: f32[2*tokens+1, 2] = input y
%0: f32[tokens, 2] = activation(%x)
output o = %0
)");
  try {
    evaluate(network, inputs, leaf);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Evaluate, InputsMustFit) {
  HostTensor x = matrix({1, 2, 3, 4}, 2);
  EXPECT_EQ(error_of({{"x", x}, {"y", zeros("f32[5, 2]")}}), "no error");
  EXPECT_EQ(error_of({{"x", x}}), "the input \"y\" is missing");
  EXPECT_EQ(error_of({{"x", x}, {"y", zeros("f32[4, 2]")}}), "\"y\" is f32[4, 2] where f32[2*tokens+1, 2] is needed");
  EXPECT_EQ(error_of({{"x", matrix({1, 2, 3}, 3)}, {"y", x}}), "\"x\" is f32[1, 3] where f32[tokens, 2] is needed");
  EXPECT_EQ(error_of({{"x", zeros("i32[1, 2]")}, {"y", x}}), "\"x\" is i32[1, 2] where f32[tokens, 2] is needed");
}

}  // namespace
}  // namespace ingot
