#include <array>
#include <cmath>

#include "ops/indexing.h"
#include "ops/pointwise.h"
#include "passes/passes.h"

namespace ingot {

namespace {

const Unsupported kQuiet{""};

template <class Op>
Rewritten order_operands(const Match& match, Network& out) {
  Value a = match["a"], b = match["b"];
  // Equal types only: the first operand decides the dtype of the result, and a row vector can only be the second.
  bool swap = !match.is_swapped() && b < a && match.type("a") == match.type("b");
  if (!swap) return kQuiet;
  return Values{out.add_one(Op{}, {b, a})};
}

Rewritten drop_scale(const Match& match, Network&) {
  if (match.root_op<Scale>().factor != 1) return kQuiet;
  return Values{match["x"]};
}

Rewritten join_scales(const Match& match, Network& out) {
  double factor = double{match.root_op<Scale>().factor} * match.op<Scale>("inner").factor;
  if (!std::isfinite(static_cast<float>(factor)) || (factor != 0 && static_cast<float>(factor) == 0))
    return Unsupported{"the product of the factors is out of range"};
  return Values{out.add_one(Scale{static_cast<float>(factor)}, {match["x"]})};
}

Rewritten drop_cast(const Match& match, Network&) {
  if (match.type("x").dtype != match.root_op<Cast>().dtype) return kQuiet;
  return Values{match["x"]};
}

// Whether every value of `from` is a value of `to`.
bool widens(DType from, DType to) {
  return from == to || to == DType::kF64 || (to == DType::kF32 && (from == DType::kBF16 || from == DType::kF16));
}

Rewritten join_casts(const Match& match, Network& out) {
  if (!widens(match.type("x").dtype, match.op<Cast>("inner").dtype)) return Unsupported{"the inner cast rounds"};
  return Values{out.add_one(Cast{match.root_op<Cast>().dtype}, {match["x"]})};
}

Rewritten drop_slice(const Match& match, Network&) {
  const Slice& slice = match.root_op<Slice>();
  if (slice.begin != 0 || Dim(slice.end) != match.type("x").shape[1]) return kQuiet;
  return Values{match["x"]};
}

Rewritten join_slices(const Match& match, Network& out) {
  const Slice &inner = match.op<Slice>("inner"), &outer = match.root_op<Slice>();
  return Values{out.add_one(Slice{inner.begin + outer.begin, inner.begin + outer.end}, {match["x"]})};
}

Rewritten drop_activation(const Match& match, Network&) {
  if (match.root_op<Activation>().function != ActivationFunction::kNone) return kQuiet;
  return Values{match["x"]};
}

constexpr std::array kRules = {
    Rule{"drop_scale", "scale(%x)", drop_scale},
    Rule{"join_scales", "scale(inner = scale(%x))", join_scales},
    Rule{"drop_cast", "cast(%x)", drop_cast},
    Rule{"join_casts", "cast(inner = cast*(%x))", join_casts},
    Rule{"drop_slice", "slice(%x)", drop_slice},
    Rule{"join_slices", "slice(inner = slice*(%x))", join_slices},
    Rule{"drop_activation", "activation(%x)", drop_activation},
    Rule{"order_operands", "add(%a, %b)", order_operands<Add>},
    Rule{"order_operands", "multiply(%a, %b)", order_operands<Multiply>},
};

}  // namespace

Network canonicalize(Network network, const PassContext& context) {
  return apply_rules(std::move(network), kRules, context.log);
}

}  // namespace ingot
