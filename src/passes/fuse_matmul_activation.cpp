// fuse_matmul_activation and fuse_matmul_gate: a function joins the products before it.
#include <array>
#include <type_traits>

#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "passes/passes.h"

namespace ingot {

namespace {

template <class Function>
Rewritten fuse(const Match& match, Network& out) {
  Matmul matmul = match.op<Matmul>("matmul");
  if (!matmul.bare()) return Unsupported{"the matmul has a function or a residual already"};
  matmul.function = match.root_op<Function>().function;
  matmul.gated = std::is_same_v<Function, GatedActivation>;
  return Values{out.add_one(matmul, match.inputs({match["x"], match["w"]}, "rest"), match.node("matmul").label)};
}

constexpr std::array kActivation = {
    Rule{"fuse_matmul_activation", "activation(matmul = matmul(%x, %w, %rest...))", fuse<Activation>},
};
constexpr std::array kGate = {
    Rule{"fuse_matmul_gate", "gated_activation(matmul = matmul(%x, %w, %rest...))", fuse<GatedActivation>},
};

}  // namespace

Network fuse_matmul_activation(Network network, const PassContext& context) {
  return apply_rules(std::move(network), kActivation, context.log);
}

Network fuse_matmul_gate(Network network, const PassContext& context) {
  return apply_rules(std::move(network), kGate, context.log);
}

}  // namespace ingot
