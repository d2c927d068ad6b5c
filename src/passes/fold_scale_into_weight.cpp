#include <array>
#include <cmath>

#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "passes/passes.h"

namespace ingot {

namespace {

// Exponents beyond this could push weights out of the range of bf16, which f32 arithmetic would still hold.
constexpr int kMaxExponent = 32;

// Why `weight` times `factor` would differ from scaling afterwards by more than the rounding of f32; empty: it would
// not.
std::string loss(const TensorType& weight, float factor) {
  if (weight.dtype == DType::kF32) return "";
  int exponent = 0;
  bool power_of_two = std::abs(std::frexp(factor, &exponent)) == 0.5f;
  if (weight.dtype == DType::kBF16 && power_of_two && std::abs(exponent) <= kMaxExponent) return "";
  return format("{} times a weight of {} would round it", factor, enum_name(weight.dtype));
}

Recipe scaled(const Node& weight, float factor) {
  Recipe recipe = recipe::scale(weight.recipe, factor);
  DType dtype = weight.types[0].dtype;
  return dtype == DType::kF32 ? recipe : recipe::cast(std::move(recipe), dtype);
}

Value add_scaled(const Match& match, const Node& weight, float factor) {
  return match.add_weight(weight.name + ".scaled", scaled(weight, factor), weight.types[0]);
}

Rewritten scale_before(const Match& match, Network& out) {
  float factor = match.op<Scale>("scale").factor;
  if (std::string reason = loss(match.type("w"), factor); !reason.empty()) return Unsupported{reason};
  if (match.uses("w") != 1) return Unsupported{"the weight has other readers, it would be stored twice"};
  Value weight = add_scaled(match, match.node("w"), factor);
  return out.add(match.root().op, match.inputs({match["x"], weight}, "rest"));
}

Rewritten scale_after(const Match& match, Network& out) {
  const Matmul& matmul = match.op<Matmul>("matmul");
  float factor = match.root_op<Scale>().factor;
  if (!matmul.bare()) return Unsupported{"the matmul has a function or a residual before the scale"};
  if (std::string reason = loss(match.type("w"), factor); !reason.empty()) return Unsupported{reason};
  if (match.uses("w") != 1) return Unsupported{"the weight has other readers, it would be stored twice"};
  if (!matmul.bias) return Values{out.add_one(matmul, {match["x"], add_scaled(match, match.node("w"), factor)})};
  const Node& bias = match.rest_node("rest", 0);
  if (bias.kind != NodeKind::kWeight) return Unsupported{"the bias is no weight"};
  if (std::string reason = loss(bias.types[0], factor); !reason.empty()) return Unsupported{reason};
  Value weight = add_scaled(match, match.node("w"), factor);
  return Values{out.add_one(matmul, {match["x"], weight, add_scaled(match, bias, factor)})};
}

constexpr std::array kRules = {
    Rule{"scale_before_matmul", "matmul(scale = scale(%x), @w, %rest...)", scale_before},
    Rule{"scale_after_matmul", "scale(matmul = matmul(%x, @w, %rest...))", scale_after},
};

}  // namespace

Network fold_scale_into_weight(Network network, const PassContext& context) {
  return apply_rules(std::move(network), kRules, context.log);
}

}  // namespace ingot
