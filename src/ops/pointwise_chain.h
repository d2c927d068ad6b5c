// Elementwise ops one after the other, as one.
#pragma once

#include <vector>

#include "ops/op.h"

namespace ingot {

// y = the steps applied to x in turn. A step is add, multiply, scale(factor), soft_cap(cap), activation(function) or
// cast(dtype) and means what the op of that name does to the result of the step before; an add or multiply takes the
// next input as its b. Nothing is rounded between the steps, not even by a cast: y alone is, to the dtype that the last
// cast names or else x's. Inputs: x, then the b of each add and multiply; at most kMaxInputs in all.
struct PointwiseChain {
  static constexpr std::string_view name = "pointwise_chain";
  static constexpr size_t kMaxInputs = 4;
  std::string steps;  // "scale(8), add, soft_cap(30)"
  static constexpr auto fields() { return std::tuple{field("steps", &PointwiseChain::steps)}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types& inputs) const;
};

// Whether an op can be a step of a chain.
bool is_chain_step(const AnyOp& op);
// The text of `ops`, each of which can be a step.
std::string print_chain_steps(const std::vector<AnyOp>& ops);
// The ops behind such a text; throws an Error that says what is wrong with it.
std::vector<AnyOp> parse_chain_steps(std::string_view steps);
// Whether a step takes an input of its own.
bool takes_operand(const AnyOp& step);

}  // namespace ingot
