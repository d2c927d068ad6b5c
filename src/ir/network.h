// The graph: nodes in topological order, a value type that is moved through passes. Nothing about a node lives outside
// the node. State is threaded: every version of a state has at most one successor (verified by ir/verify.h), so
// removing dead code is always safe.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ops/op.h"
#include "tensor/cache_group.h"
#include "tensor/dim_range.h"
#include "tensor/recipe.h"
#include "tensor/type.h"

namespace ingot {

// One result of one node of a network.
struct Value {
  int node = -1;
  int result = 0;
  bool operator==(const Value&) const = default;
  auto operator<=>(const Value&) const = default;
};
using Values = std::vector<Value>;

enum class NodeKind { kInput, kWeight, kState, kOp };

struct Node {
  NodeKind kind = NodeKind::kOp;
  std::string name;   // of an input ("ids"), weight ("layers.0.self_attn.q_proj.weight") or state ("layers.0.k")
  Recipe recipe;      // of a weight
  std::string group;  // of a state: its cache group; empty when it has a row for each running sequence
  AnyOp op;           // of an op node
  Values inputs;      // of an op node
  Types types;        // one per result
  std::string label;  // where it comes from, for people: "layers.0.self_attn.q_proj"
  // Per result, the names of values of the loaded network that it equals: `verify` and taps meet there.
  std::vector<std::vector<std::string>> origins;
};

class Network {
 public:
  std::vector<DimRange> dims;
  std::vector<CacheGroup> groups;

  Value add_input(std::string name, TensorType type);
  Value add_weight(std::string name, Recipe recipe, TensorType type);
  Value add_state(std::string name, TensorType type, std::string group = "");
  // Infers the result types; throws an Error that names the op, its label and the input types when they do not fit.
  Values add(AnyOp op, Values inputs, std::string label = "");
  // The same for an op with one result.
  Value add_one(AnyOp op, Values inputs, std::string label = "");
  // Declares `value` as the output `name`. Final state versions are outputs too, named like the state.
  void add_output(std::string name, Value value);

  const std::vector<Node>& nodes() const { return nodes_; }
  const Node& node(Value value) const { return nodes_[static_cast<size_t>(value.node)]; }
  Node& mutable_node(Value value) { return nodes_[static_cast<size_t>(value.node)]; }
  const TensorType& type(Value value) const { return node(value).types[static_cast<size_t>(value.result)]; }
  const std::vector<std::pair<std::string, Value>>& outputs() const { return outputs_; }
  std::vector<std::pair<std::string, Value>>& outputs() { return outputs_; }

  // The input, weight or state called `name`; {-1} when there is none.
  Value find(std::string_view name) const;
  // How often each result is read, outputs counted: uses()[value].
  std::map<Value, int> uses() const;

 private:
  Value add_leaf(Node node);
  std::vector<Node> nodes_;
  std::vector<std::pair<std::string, Value>> outputs_;
};

}  // namespace ingot
