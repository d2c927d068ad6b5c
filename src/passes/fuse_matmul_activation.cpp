#include <array>

#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "passes/passes.h"

namespace ingot {

namespace {

Rewritten fuse(const Match& match, Network& out) {
  Matmul matmul = match.op<Matmul>("matmul");
  if (matmul.function != ActivationFunction::kNone || matmul.residual || matmul.gated)
    return Unsupported{"the matmul has a function or a residual already"};
  matmul.function = match.root_op<Activation>().function;
  return Values{out.add_one(matmul, match.inputs({match["x"], match["w"]}, "rest"), match.node("matmul").label)};
}

constexpr std::array kRules = {
    Rule{"fuse_matmul_activation", "activation(matmul = matmul(%x, %w, %rest...))", fuse},
};

}  // namespace

Network fuse_matmul_activation(Network network, const PassContext& context) {
  return apply_rules(std::move(network), kRules, context.log);
}

}  // namespace ingot
