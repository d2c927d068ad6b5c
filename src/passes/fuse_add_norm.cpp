#include <array>

#include "ops/norm.h"
#include "passes/passes.h"

namespace ingot {

namespace {

// Why the sum and a norm of it with `gamma` are not one op; empty: they are.
std::string obstacle(const Match& match) {
  const TensorType &a = match.type("a"), &b = match.type("b");
  if (a != b || a.rank() != 2) return format("the sum is of {} and {}", print(a), print(b));
  if (match.type("gamma").shape != Shape{a.shape[1]}) return "the norm is over parts of a row";
  return "";
}

Rewritten fuse_rms(const Match& match, Network& out) {
  if (std::string reason = obstacle(match); !reason.empty()) return Unsupported{reason};
  Values fused = out.add(AddRmsNorm{match.root_op<RmsNorm>().epsilon}, {match["a"], match["b"], match["gamma"]});
  return Values{fused[1], fused[0]};
}

Rewritten fuse_layer(const Match& match, Network& out) {
  if (std::string reason = obstacle(match); !reason.empty()) return Unsupported{reason};
  Values fused = out.add(AddLayerNorm{match.root_op<LayerNorm>().epsilon},
                         {match["a"], match["b"], match["gamma"], match["beta"]});
  return Values{fused[1], fused[0]};
}

constexpr std::array kRules = {
    Rule{"fuse_add_rms_norm", "rms_norm(add&(%a, %b), %gamma)", fuse_rms},
    Rule{"fuse_add_layer_norm", "layer_norm(add&(%a, %b), %gamma, %beta)", fuse_layer},
};

}  // namespace

Network fuse_add_norm(Network network, const PassContext& context) {
  return apply_rules(std::move(network), kRules, context.log);
}

}  // namespace ingot
