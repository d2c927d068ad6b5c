#include <array>

#include "ops/indexing.h"
#include "ops/pointwise.h"
#include "passes/passes.h"

namespace ingot {

namespace {

Rewritten fuse(const Match& match, Network& out) {
  const TensorType &gate = match.type("gate"), &up = match.type("up");
  if (gate != up || gate.rank() != 2) return Unsupported{format("gate is {} and up {}", print(gate), print(up))};
  return Values{
      out.add_one(GatedActivation{match.op<Activation>("activation").function}, {match["gate"], match["up"]})};
}

Rewritten take_halves(const Match& match, Network& out) {
  const Slice &gate = match.op<Slice>("gate"), &up = match.op<Slice>("up");
  bool halves = gate.begin == 0 && up.begin == gate.end && Dim(up.end) == match.type("both").shape[1];
  if (!halves) return Unsupported{"gate and up are not the first and the second half of one value"};
  return Values{out.add_one(match.root().op, {match["both"]})};
}

constexpr std::array kRules = {
    Rule{"fuse_gated_activation", "multiply(activation = activation(%gate), %up)", fuse},
    Rule{"fuse_gated_halves", "gated_activation(gate = slice*(%both), up = slice*(%both))", take_halves},
};

}  // namespace

Network fuse_gated_activation(Network network, const PassContext& context) {
  return apply_rules(std::move(network), kRules, context.log);
}

}  // namespace ingot
