#include <array>

#include "ops/matmul.h"
#include "passes/passes.h"

namespace ingot {

namespace {

Rewritten fuse(const Match& match, Network& out) {
  Matmul matmul = match.op<Matmul>("matmul");
  if (matmul.gated) return Unsupported{"a gated matmul takes no residual"};
  if (matmul.residual) return Unsupported{"the matmul has a residual already"};
  // Else the sum would have another dtype, or the residual is a vector: a bias that fold_bias refused.
  const TensorType& result = match.node("matmul").types[0];
  if (match.type("residual") != result)
    return Unsupported{format("{} is added to {}", print(match.type("residual")), print(result))};
  matmul.residual = true;
  Values inputs = match.inputs({match["x"], match["w"]}, "rest");
  inputs.push_back(match["residual"]);
  return Values{out.add_one(matmul, inputs, match.node("matmul").label)};
}

constexpr std::array kRules = {
    Rule{"fuse_matmul_residual", "add(matmul = matmul(%x, %w, %rest...), %residual)", fuse},
};

}  // namespace

Network fuse_matmul_residual(Network network, const PassContext& context) {
  return apply_rules(std::move(network), kRules, context.log);
}

}  // namespace ingot
