#include "tensor/recipe.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace ingot {
namespace {

// Two matrices and two vectors to compute with.
HostTensor leaf(std::string_view name) {
  if (name == "a") return {parse_type("f32[2, 3]"), {1, 2, 3, 4, 5, 6}};
  if (name == "b") return {parse_type("f32[1, 3]"), {7, 8, 9}};
  if (name == "v") return {parse_type("f32[3]"), {1, 10, 100}};
  if (name == "h") return {parse_type("bf16[2]"), {0.5, 3}};
  if (name == "t") return {parse_type("f32[2, 2, 2]"), {0, 1, 2, 3, 4, 5, 6, 7}};
  if (name == "d") return {parse_type("f64[2]"), {1.0 / 3, 2}};
  if (name == "i") return {parse_type("i32[2]"), {1, 2}};
  fail(ErrorCode::kRuntime, "no {}", name);
}
TensorType leaf_type(std::string_view name) { return leaf(name).type; }

std::string type_of(std::string_view text) { return print(infer(parse_recipe(text), leaf_type)); }
std::vector<double> values_of(std::string_view text) {
  HostTensor result = evaluate(parse_recipe(text), leaf);
  TensorType type = infer(parse_recipe(text), leaf_type);
  type.layout.clear();
  EXPECT_EQ(result.type, type) << text;
  return result.values;
}
using Values = std::vector<double>;

TEST(Recipe, TextReadsBackAsItself) {
  for (const char* text : {"model.layers.0.q.weight",
                           "\"odd name, (quoted)\"",
                           "\"back\\\\slash \\\"quote\\\"\"",
                           "\"true\"",
                           "cast",
                           "pack(cast(concat(a.weight, b.weight), bf16), tiles_16x32)",
                           "constant([1, -0.5, 1e-05])",
                           "transpose(a)",
                           "slice(a, 1, 0, 2)",
                           "reshape(a, 3, 2)",
                           "reshape(slice(v, 0, 1, 2))",
                           "stack(a, a)",
                           "add(a, 1)",
                           "scale(a, 0.125)",
                           "mul(a, v)",
                           "mul_rows(a, h)",
                           "rope_frequencies(10000, 64, default)",
                           "rope_frequencies(5e+05, 8, linear, factor = 2.5)",
                           "rope_frequencies(5e+05, 8, llama3, factor = 8, low_freq_factor = 1, high_freq_factor = 4, "
                           "original_max_position_embeddings = 8192)",
                           "rope_frequencies(10000, 4, longrope, factors = [1, 1.25])"}) {
    Recipe recipe = parse_recipe(text);
    EXPECT_EQ(print(recipe), text);
    EXPECT_EQ(parse_recipe(print(recipe)), recipe);
  }
  EXPECT_EQ(print(parse_recipe(" tensor( \"a.b\" ) # a comment")), "a.b");
  EXPECT_EQ(print(parse_recipe("tensor(\"a b\")")), "\"a b\"");
}

TEST(Recipe, BuildersMakeWhatTheTextSays) {
  using namespace recipe;
  EXPECT_EQ(pack(cast(concat({tensor("a"), tensor("b")}), DType::kBF16), "tiles"),
            parse_recipe("pack(cast(concat(a, b), bf16), tiles)"));
  EXPECT_EQ(mul_rows(scale(add(transpose(tensor("a")), 1), 2), constant({1, 2, 3})),
            parse_recipe("mul_rows(scale(add(transpose(a), 1), 2), constant([1, 2, 3]))"));
  EXPECT_NE(tensor("a"), tensor("b"));
  EXPECT_NE(scale(tensor("a"), 1), add(tensor("a"), 1));
  EXPECT_NE(concat({tensor("a"), tensor("b")}), concat({tensor("b"), tensor("a")}));
  EXPECT_EQ(Recipe(), Recipe());
  EXPECT_NE(Recipe(), tensor("a"));
  EXPECT_EQ(print(Recipe()), "");
}

TEST(Recipe, MistakesInTheTextAreErrors) {
  for (const char* text : {"",
                           "(",
                           "a b",
                           "a)",
                           "concat()",
                           "concat(a",
                           "concat(a,)",
                           "cast(a)",
                           "cast(a, i8)",
                           "cast(a, float)",
                           "nothing(a)",
                           "\"",
                           "\"\"",
                           "slice(a, 0, 1)",
                           "slice(a, -1, 0, 1)",
                           "slice(a, 0, 2, 2)",
                           "slice(a, 0, -1, 2)",
                           "reshape(a, 0)",
                           "reshape(a, -3)",
                           "add(a, b)",
                           "add(a, inf)",
                           "add(a, nan)",
                           "scale(a)",
                           "constant([])",
                           "constant([1e39])",
                           "constant([nan])",
                           "constant(1)",
                           "concat(pack(a, t), b)",
                           "pack(pack(a, t), t)",
                           "pack(a, \"\")",
                           "rope_frequencies(10000, 7, default)",
                           "rope_frequencies(10000, 0, default)",
                           "rope_frequencies(0, 8, default)",
                           "rope_frequencies(-1, 8, default)",
                           "rope_frequencies(10000, 8, yarn)",
                           "rope_frequencies(10000, 8, linear)",
                           "rope_frequencies(10000, 8, linear, factor = 0)",
                           "rope_frequencies(10000, 8, longrope, factors = [1])",
                           "rope_frequencies(10000, 99999998, default)",
                           "slice(a, 0, 0, 99999999999999999999)"})
    EXPECT_THROW(parse_recipe(text), Error) << text;
  try {
    parse_recipe("concat(a, cast(b, f33))");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("line 1, column 22"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("f33"), std::string::npos) << error.what();
  }
}

TEST(Recipe, DepthAndSizeAreLimited) {
  auto nested = [](int depth) {
    std::string text;
    for (int i = 1; i < depth; ++i) text += "transpose(";
    text += "a" + std::string(static_cast<size_t>(depth - 1), ')');
    return text;
  };
  EXPECT_NO_THROW(parse_recipe(nested(recipe::kMaxDepth)));
  EXPECT_THROW(parse_recipe(nested(recipe::kMaxDepth + 1)), Error);
  EXPECT_THROW(parse_recipe(nested(100000)), Error);
  Recipe doubling = recipe::tensor("a");
  EXPECT_THROW(for (int i = 0; i < 40; ++i) doubling = recipe::concat({doubling, doubling}), Error);
  EXPECT_THROW(parse_recipe(std::string(recipe::kMaxTextBytes + 1, ' ')), Error);
}

TEST(Recipe, InferNamesWhatDoesNotFit) {
  EXPECT_EQ(type_of("concat(a, b)"), "f32[3, 3]");
  EXPECT_EQ(type_of("stack(a, a, a)"), "f32[3, 2, 3]");
  EXPECT_EQ(type_of("transpose(a)"), "f32[3, 2]");
  EXPECT_EQ(type_of("slice(t, 2, 1, 2)"), "f32[2, 2, 1]");
  EXPECT_EQ(type_of("reshape(a, 6)"), "f32[6]");
  EXPECT_EQ(type_of("scale(h, 2)"), "f32[2]");
  EXPECT_EQ(type_of("scale(d, 2)"), "f64[2]");
  EXPECT_EQ(type_of("mul(h, d)"), "f64[2]");
  EXPECT_EQ(type_of("cast(scale(h, 2), bf16)"), "bf16[2]");
  EXPECT_EQ(type_of("cast(i, f32)"), "f32[2]");
  EXPECT_EQ(type_of("pack(a, tiles)"), "f32[2, 3]@tiles");
  EXPECT_EQ(type_of("rope_frequencies(10000, 64, default)"), "f32[32]");
  for (const char* text : {"concat(a, v)", "concat(a, t)", "concat(v, h)", "concat(a, cast(b, f16))", "stack(a, b)",
                           "transpose(v)", "transpose(t)", "slice(a, 2, 0, 1)", "slice(a, 1, 2, 4)", "reshape(a, 5)",
                           "reshape(a, 9223372036854775807, 9223372036854775807)", "mul(a, h)", "mul(v, a)",
                           "mul_rows(a, v)", "mul_rows(a, b)", "scale(i, 2)", "mul(v, i)", "pack(v, tiles)", "missing"})
    EXPECT_THROW(type_of(text), Error) << text;
}

TEST(Recipe, LeavesAreListedOnceInOrder) {
  EXPECT_EQ(leaves(parse_recipe("concat(mul(z, a), cast(z, f32), \"b c\", constant([1]))")),
            (std::vector<std::string>{"z", "a", "b c"}));
}

TEST(Recipe, EveryFunctionMeansWhatItSays) {
  EXPECT_EQ(values_of("concat(a, b)"), (Values{1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(values_of("stack(b, b)"), (Values{7, 8, 9, 7, 8, 9}));
  EXPECT_EQ(values_of("transpose(a)"), (Values{1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(values_of("slice(a, 0, 1, 2)"), (Values{4, 5, 6}));
  EXPECT_EQ(values_of("slice(a, 1, 1, 3)"), (Values{2, 3, 5, 6}));
  EXPECT_EQ(values_of("slice(t, 1, 1, 2)"), (Values{2, 3, 6, 7}));
  EXPECT_EQ(values_of("slice(t, 2, 0, 1)"), (Values{0, 2, 4, 6}));
  EXPECT_EQ(values_of("reshape(a, 3, 2)"), (Values{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(values_of("add(a, 1)"), (Values{2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(values_of("scale(a, -2)"), (Values{-2, -4, -6, -8, -10, -12}));
  EXPECT_EQ(values_of("mul(a, a)"), (Values{1, 4, 9, 16, 25, 36}));
  EXPECT_EQ(values_of("mul(a, v)"), (Values{1, 20, 300, 4, 50, 600}));
  EXPECT_EQ(values_of("mul_rows(a, h)"), (Values{0.5, 1, 1.5, 12, 15, 18}));
  EXPECT_EQ(values_of("mul_rows(t, h)"), (Values{0, 0.5, 1, 1.5, 12, 15, 18, 21}));
  EXPECT_EQ(values_of("constant([1.5, 2])"), (Values{1.5, 2}));
  EXPECT_EQ(values_of("pack(a, tiles)"), (Values{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(values_of("cast(i, f16)"), (Values{1, 2}));
}

TEST(Recipe, RoundsAtCastsAlone) {
  // 1 + 2^-9 is no bf16; had the product rounded to bf16 before the sum, the sum would be 1.
  EXPECT_EQ(values_of("cast(add(scale(cast(constant([1]), bf16), 1.001953125), -0.9921875), bf16)"),
            (Values{0.009765625}));
  EXPECT_EQ(values_of("cast(constant([1.00390625, 1.01171875]), bf16)"), (Values{1, 1.015625}));  // ties go to even
  EXPECT_EQ(values_of("scale(constant([0.1]), 0.1)"), (Values{double(float(double(0.1f) * 0.1))}));
  HostTensor exact = evaluate(parse_recipe("cast(scale(d, 0.1), bf16)"), leaf, Rounding::kNone);
  EXPECT_EQ(exact.type, parse_type("f64[2]"));
  EXPECT_EQ(exact.values[0], 1.0 / 3 * 0.1);
}

TEST(Recipe, RopeFrequencies) {
  std::vector<double> plain = values_of("rope_frequencies(10000, 8, default)");
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(plain[size_t(i)], std::pow(10000, -i / 4.0), 1e-7 * plain[size_t(i)]);
  std::vector<double> linear = values_of("rope_frequencies(10000, 8, linear, factor = 4)");
  std::vector<double> longrope = values_of("rope_frequencies(10000, 8, longrope, factors = [1, 2, 3, 4])");
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_FLOAT_EQ(float(linear[i]), float(plain[i] / 4));
    EXPECT_FLOAT_EQ(float(longrope[i]), float(plain[i] / double(i + 1)));
  }
  // Wavelengths 2 pi 10^i; between 8192 / 4 and 8192 / 1 a mixture, above divided by the factor.
  std::vector<double> llama = values_of(
      "rope_frequencies(100000, 10, llama3, factor = 8, low_freq_factor = 1, high_freq_factor = 4, "
      "original_max_position_embeddings = 8192)");
  double smooth = (8192 / (2000 * M_PI) - 1) / 3;
  double expected[] = {1, 0.1, 0.01, 0.001 * ((1 - smooth) / 8 + smooth), 0.0001 / 8};
  for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(llama[i], expected[i], 2e-6 * expected[i]) << i;
}

}  // namespace
}  // namespace ingot
