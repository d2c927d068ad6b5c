#include <array>

#include "ops/indexing.h"
#include "ops/pointwise.h"
#include "passes/passes.h"

namespace ingot {

namespace {

// Recipe arithmetic makes f32; the op's result has its own dtype. Both round once.
Recipe rounded_to(Recipe recipe, DType dtype) {
  bool already = dtype == DType::kF32 || dtype == DType::kF64;
  return already ? recipe : recipe::cast(std::move(recipe), dtype);
}

Rewritten folded(const Match& match, std::string_view weight, std::string_view suffix, Recipe recipe) {
  return Values{
      match.add_weight(format("{}.{}", match.node(weight).name, suffix), std::move(recipe), match.root().types[0])};
}

Rewritten fold_scale(const Match& match, Network&) {
  Recipe scaled = recipe::scale(match.node("w").recipe, match.root_op<Scale>().factor);
  return folded(match, "w", "scaled", rounded_to(std::move(scaled), match.type("w").dtype));
}

Rewritten fold_cast(const Match& match, Network&) {
  return folded(match, "w", "cast", recipe::cast(match.node("w").recipe, match.root_op<Cast>().dtype));
}

Rewritten fold_slice(const Match& match, Network&) {
  const Slice& slice = match.root_op<Slice>();
  return folded(match, "w", "slice", recipe::slice(match.node("w").recipe, 1, slice.begin, slice.end));
}

Rewritten fold_multiply(const Match& match, Network&) {
  const TensorType &a = match.type("a"), &b = match.type("b"), &result = match.root().types[0];
  // The match with swapped inputs: b is the first, which decides dtype and shape.
  if (match.is_swapped()) return Unsupported{""};
  if (a.dtype != DType::kF64 && b.dtype == DType::kF64) return Unsupported{"an f64 factor of a narrower weight"};
  Recipe product = recipe::mul(match.node("a").recipe, match.node("b").recipe);
  return folded(match, "a", "multiplied", rounded_to(std::move(product), result.dtype));
}

constexpr std::array kRules = {
    Rule{"fold_scale", "scale(@w)", fold_scale},
    Rule{"fold_cast", "cast(@w)", fold_cast},
    Rule{"fold_slice", "slice(@w)", fold_slice},
    Rule{"fold_multiply", "multiply(@a, @b)", fold_multiply},
};

}  // namespace

Network fold_constants(Network network, const PassContext& context) {
  return apply_rules(std::move(network), kRules, context.log);
}

}  // namespace ingot
