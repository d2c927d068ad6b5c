#include <array>

#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "passes/merged_weight.h"
#include "passes/passes.h"

namespace ingot {

namespace {

Rewritten merge(const Match& match, Network& out) {
  const Matmul &gate = match.op<Matmul>("gate"), &up = match.op<Matmul>("up");
  if (!gate.bare() || !up.bare()) return Unsupported{"a projection has a function or a residual"};
  if (gate.wide != up.wide) return Unsupported{"one projection is wide"};
  if (gate.bias != up.bias) return Unsupported{"one projection has a bias"};
  if (match.uses("g") != 1 || match.uses("u") != 1) return Unsupported{"a weight has other readers"};
  std::vector<const Node*> weights = {&match.node("g"), &match.node("u")}, biases;
  std::string obstacle = merge_obstacle(weights);
  if (obstacle.empty() && gate.bias) {
    biases = {&match.rest_node("gate_rest", 0), &match.rest_node("up_rest", 0)};
    obstacle = merge_obstacle(biases);
  }
  if (!obstacle.empty()) return Unsupported{obstacle};
  Values inputs = {match["x"]};
  for (const auto& parts : {weights, biases})
    if (!parts.empty())
      inputs.push_back(match.add_weight(merged_name(parts), merged_recipe(parts), merged_type(parts)));
  Value both = out.add_one(gate, inputs, match.node("gate").label);
  return Values{out.add_one(match.root().op, {both})};
}

constexpr std::array kRules = {
    Rule{"merge_gate_up", "gated_activation(gate = matmul(%x, @g, %gate_rest...), up = matmul(%x, @u, %up_rest...))",
         merge},
};

}  // namespace

Network merge_gate_up(Network network, const PassContext& context) {
  return apply_rules(std::move(network), kRules, context.log);
}

}  // namespace ingot
