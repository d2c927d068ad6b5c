#include <algorithm>

#include "ops/attention.h"
#include "ops/indexing.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/rope.h"
#include "passes/merged_weight.h"
#include "passes/passes.h"

namespace ingot {

namespace {

// Why only in front of an attention: a slice that nobody absorbs is a copy, so projections that merely share their
// input (a router and an MLP, say) stay apart.

// The node of the matmul from which an operand of attention comes through rotation, norm and kv write; -1: none.
int projection(const Network& network, Value value) {
  for (;;) {
    const Node& node = network.node(value);
    if (node.kind != NodeKind::kOp) return -1;
    if (node.op.is<Matmul>()) return value.node;
    if (node.op.is<KvWrite>()) {
      value = node.inputs[1];
    } else if (node.op.is<Rope>() || node.op.is<RmsNorm>()) {
      value = node.inputs[0];
    } else {
      return -1;
    }
  }
}

struct Group {
  std::vector<int> matmuls;  // q, k, v
};

class Merge {
 public:
  Merge(const Network& network, RewriteLog& log)
      : network_(network), uses_(network.uses()), sweep_(network), log_(log) {}

  Network run() {
    for (const Node& node : network_.nodes())
      if (node.kind == NodeKind::kOp && node.op.is<Attention>()) consider(node);
    if (groups_.empty()) return network_;
    for (size_t i = 0; i < network_.nodes().size(); ++i) {
      auto group = groups_.find(static_cast<int>(i));
      if (group != groups_.end()) build(group->second);
      sweep_.copy(static_cast<int>(i));
    }
    return sweep_.finish();
  }

 private:
  const Node& node(int index) const { return network_.nodes()[static_cast<size_t>(index)]; }

  void consider(const Node& attention) {
    Group group;
    for (size_t operand = 0; operand < 3; ++operand) {
      int matmul = projection(network_, attention.inputs[operand]);
      if (matmul < 0) return;
      group.matmuls.push_back(matmul);
    }
    std::string reason = obstacle(group);
    if (reason.empty()) {
      groups_.emplace(*std::min_element(group.matmuls.begin(), group.matmuls.end()), group);
      taken_.insert(group.matmuls.begin(), group.matmuls.end());
    } else {
      log_.refusals.push_back(format("merge_qkv at {}: {}", attention.label, reason));
    }
  }

  std::string obstacle(const Group& group) const {
    const Matmul& first = *node(group.matmuls[0]).op.as<Matmul>();
    std::set<int> different(group.matmuls.begin(), group.matmuls.end());
    if (different.size() != group.matmuls.size()) return "q, k and v share a projection";
    for (int index : group.matmuls) {
      const Matmul& matmul = *node(index).op.as<Matmul>();
      if (taken_.contains(index)) return "a projection is merged already";
      if (node(index).inputs[0] != node(group.matmuls[0]).inputs[0]) return "the projections have different inputs";
      if (!matmul.bare()) return "a projection has a function or a residual";
      if (matmul.wide != first.wide) return "not all projections are wide";
      if (matmul.bias != first.bias) return "not all projections have a bias";
      if (uses_.at(node(index).inputs[1]) != 1) return "a weight has other readers";
    }
    std::string reason = merge_obstacle(operands(group, 1));
    if (reason.empty() && first.bias) reason = merge_obstacle(operands(group, 2));
    return reason;
  }

  // The nodes of input `input` of every matmul.
  std::vector<const Node*> operands(const Group& group, size_t input) const {
    std::vector<const Node*> nodes;
    for (int index : group.matmuls) nodes.push_back(&network_.node(node(index).inputs[input]));
    return nodes;
  }

  void build(const Group& group) {
    const Node& first = node(group.matmuls[0]);
    Values inputs = {sweep_(first.inputs[0])};
    for (size_t input = 1; input < first.inputs.size(); ++input) {
      std::vector<const Node*> parts = operands(group, input);
      inputs.push_back(sweep_.add_weight(merged_name(parts), merged_recipe(parts), merged_type(parts)));
    }
    Value merged = sweep_.out().add_one(first.op, inputs, first.label);
    int64_t begin = 0;
    for (int index : group.matmuls) {
      int64_t end = begin + node(index).types[0].shape[1].constant();
      Value slice = sweep_.out().add_one(Slice{begin, end}, {merged}, node(index).label);
      sweep_.replace({index, 0}, slice);
      begin = end;
    }
    ++log_.fired;
  }

  const Network& network_;
  std::map<Value, int> uses_;
  Sweep sweep_;
  RewriteLog& log_;
  std::map<int, Group> groups_;  // by their first matmul
  std::set<int> taken_;
};

}  // namespace

Network merge_qkv(Network network, const PassContext& context) { return Merge(network, context.log).run(); }

}  // namespace ingot
