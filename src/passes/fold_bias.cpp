#include <array>

#include "ops/matmul.h"
#include "passes/passes.h"

namespace ingot {

namespace {

Rewritten fold(const Match& match, Network& out) {
  Matmul matmul = match.op<Matmul>("matmul");
  const TensorType& bias = match.type("bias");
  if (bias.rank() != 1) return Unsupported{"what is added is no vector"};
  if (matmul.gated || matmul.function != ActivationFunction::kNone)
    return Unsupported{"the matmul applies a function before"};
  if (bias.dtype != DType::kF32 && bias.dtype != match.root().types[0].dtype)
    return Unsupported{format("the bias is {}", enum_name(bias.dtype))};
  matmul.bias = true;
  return Values{out.add_one(matmul, {match["x"], match["w"], match["bias"]})};
}

// With exactly two inputs the matmul has neither bias nor residual.
constexpr std::array kRules = {Rule{"fold_bias", "add(matmul = matmul(%x, %w), @bias)", fold}};

}  // namespace

Network fold_bias(Network network, const PassContext& context) {
  return apply_rules(std::move(network), kRules, context.log);
}

}  // namespace ingot
