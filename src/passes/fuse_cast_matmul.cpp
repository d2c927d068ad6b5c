#include <array>

#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "passes/passes.h"

namespace ingot {

namespace {

Rewritten fuse(const Match& match, Network& out) {
  DType x = match.type("x").dtype, w = match.type("w").dtype;
  bool narrow = x == DType::kBF16 || x == DType::kF16;
  if (!narrow || match.op<Cast>("cast").dtype != DType::kF32) return Unsupported{""};
  if (w == DType::kF32 || w == DType::kF64) return Unsupported{format("the weight is {}", enum_name(w))};
  Matmul matmul = match.root_op<Matmul>();
  matmul.wide = true;
  return Values{out.add_one(matmul, match.inputs({match["x"], match["w"]}, "rest"))};
}

constexpr std::array kRules = {Rule{"fuse_cast_matmul", "matmul(cast = cast*(%x), %w, %rest...)", fuse}};

}  // namespace

Network fuse_cast_matmul(Network network, const PassContext& context) {
  return apply_rules(std::move(network), kRules, context.log);
}

}  // namespace ingot
