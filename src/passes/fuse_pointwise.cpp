// Elementwise ops of which each is the only reader of the one before become one op, which reads and writes memory once.
//
// A walk in the order of the network: an op continues the chain of the op that makes its input, or begins one. The last
// op of a chain stands for all of it. A cast that rounds ends a chain, for nothing is rounded within one.
#include "ops/pointwise.h"
#include "ops/pointwise_chain.h"
#include "passes/passes.h"

namespace ingot {

namespace {

struct Chain {
  std::vector<AnyOp> steps;  // empty: the node is no part of a chain
  Values inputs;             // of the old network: x, then an operand for each add and multiply
  bool continued = false;    // by the only reader
};

class Chains {
 public:
  Chains(const Network& network, RewriteLog& log) : network_(network), uses_(network.uses()), log_(log) {
    for (const Node& node : network.nodes()) chains_.push_back(chain_of(node));
  }

  bool any() const { return log_.fired > 0; }

  Network build() const {
    Sweep sweep(network_);
    for (size_t i = 0; i < chains_.size(); ++i) {
      const Chain& chain = chains_[i];
      if (chain.continued) continue;
      if (chain.steps.size() < 2) {
        sweep.copy(static_cast<int>(i));
        continue;
      }
      Value y = sweep.out().add_one(PointwiseChain{print_chain_steps(chain.steps)}, sweep(chain.inputs),
                                    network_.nodes()[i].label);
      sweep.replace({static_cast<int>(i), 0}, y);
    }
    return sweep.finish();
  }

 private:
  Chain chain_of(const Node& node) {
    if (node.kind != NodeKind::kOp) return {};
    Chain alone{{}, node.inputs};
    if (is_chain_step(node.op)) alone.steps = {node.op};
    if (auto* chain = node.op.as<PointwiseChain>()) alone.steps = parse_chain_steps(chain->steps);
    if (alone.steps.empty()) return {};
    for (size_t input = 0; input < node.inputs.size(); ++input) {
      // The first operand of a sum decides its type; of two alike either can be the first.
      const bool first = input == 0,
                 either = is_chain_step(node.op) && network_.type(node.inputs[0]) == network_.type(node.inputs[input]);
      if (!first && !either) continue;
      Chain& before = chains_[static_cast<size_t>(node.inputs[input].node)];
      if (before.steps.empty()) continue;
      std::string reason = obstacle(node.inputs[input], before, alone);
      if (!reason.empty()) {
        log_.refusals.push_back(format("fuse_pointwise at {}: {}", node.label, reason));
        continue;
      }
      ++log_.fired;
      before.continued = true;
      Chain joined{before.steps, before.inputs};
      joined.steps.insert(joined.steps.end(), alone.steps.begin(), alone.steps.end());
      for (size_t other = 0; other < node.inputs.size(); ++other)
        if (other != input) joined.inputs.push_back(node.inputs[other]);
      return joined;
    }
    return alone;
  }

  // Why `after`, which reads `value`, cannot continue the chain that makes it; empty: it can.
  std::string obstacle(Value value, const Chain& before, const Chain& after) const {
    if (uses_.at(value) > 1) return format("{} has other readers", network_.node(value).op.name());
    if (before.inputs.size() + after.inputs.size() - 1 > PointwiseChain::kMaxInputs)
      return format("a chain has at most {} inputs", PointwiseChain::kMaxInputs);
    if (rounds(value, before)) return "the cast before it rounds";
    return "";
  }

  // Whether the last step before `value` is a cast to a narrower dtype.
  bool rounds(Value value, const Chain& before) const {
    if (!before.steps.back().is<Cast>()) return false;
    DType to = network_.type(value).dtype;
    return to != DType::kF32 && to != DType::kF64;
  }

  const Network& network_;
  const std::map<Value, int> uses_;
  RewriteLog& log_;
  std::vector<Chain> chains_;  // by node
};

}  // namespace

Network fuse_pointwise(Network network, const PassContext& context) {
  Chains chains(network, context.log);
  return chains.any() ? chains.build() : std::move(network);
}

}  // namespace ingot
