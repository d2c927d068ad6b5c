#include "ir/verify.h"

#include <set>

#include "ir/text.h"

namespace ingot {

namespace {

class Verifier {
 public:
  explicit Verifier(const Network& network) : network_(network) {}

  void run() {
    check_dims();
    check_groups();
    for (size_t i = 0; i < network_.nodes().size(); ++i) check_node(static_cast<int>(i));
    check_outputs();
    for (const auto& [version, state] : versions_) check_final(version, state);
  }

 private:
  bool exists(Value value, int before) const {
    return value.node >= 0 && value.node < before && value.result >= 0 &&
           value.result < static_cast<int>(network_.node(value).types.size());
  }

  std::string describe(int index) const {
    const Node& node = network_.nodes()[static_cast<size_t>(index)];
    std::string name = node.types.empty() ? "a node without results" : print_value_name(network_, {index, 0});
    if (node.kind != NodeKind::kOp) return name;
    return format("{} = {}{}", name, node.op.name(), node.label.empty() ? "" : " (" + node.label + ")");
  }

  void check_dims() const {
    std::set<std::string> symbols;
    for (const DimRange& dim : network_.dims) {
      if (!symbols.insert(dim.symbol).second)
        fail(ErrorCode::kRuntime, "the dimension {} is declared twice", dim.symbol);
      if (dim.min < 0 || dim.opt < dim.min || dim.max < dim.opt)
        fail(ErrorCode::kRuntime, "the dimension {} has the range {}..{}..{}, which does not rise from 0 or more",
             dim.symbol, dim.min, dim.opt, dim.max);
    }
  }

  void check_groups() {
    for (const CacheGroup& group : network_.groups) {
      if (!groups_.emplace(group.name, &group).second)
        fail(ErrorCode::kRuntime, "the cache group {} is declared twice", group.name);
      if (group.page_size < 1 || group.window < 0)
        fail(ErrorCode::kRuntime, "the cache group {} has page_size {} and window {}", group.name, group.page_size,
             group.window);
    }
  }

  void check_node(int index) {
    const Node& node = network_.nodes()[static_cast<size_t>(index)];
    if (node.origins.size() != node.types.size())
      fail(ErrorCode::kRuntime, "{} has {} results, but origins of {}", describe(index), node.types.size(),
           node.origins.size());
    for (const TensorType& type : node.types)
      if (!type.layout.empty())
        fail(ErrorCode::kRuntime, "{} has the layout {}, values are row major", describe(index), type.layout);
    if (node.kind == NodeKind::kOp) return check_op(index, node);
    if (!names_.insert(node.name).second)
      fail(ErrorCode::kRuntime, "two inputs, weights or states are called \"{}\"", node.name);
    if (node.types.size() != 1 || !node.inputs.empty())
      fail(ErrorCode::kRuntime, "{} must have one result and no inputs", describe(index));
    if (node.kind == NodeKind::kWeight && (!node.recipe || !node.types[0].is_constant()))
      fail(ErrorCode::kRuntime, "{}: a weight needs a recipe and a constant type", describe(index));
    if (node.kind == NodeKind::kState) check_state(index, node);
  }

  void check_state(int index, const Node& node) {
    versions_[{index, 0}] = index;
    if (node.group.empty()) return check_seats(node);
    auto group = groups_.find(node.group);
    if (group == groups_.end())
      fail(ErrorCode::kRuntime, "the state {} is in the cache group \"{}\", which is not declared", node.name,
           node.group);
    const TensorType& type = node.types[0];
    if (type.rank() == 4 && type.shape[2] != Dim(group->second->page_size))
      fail(ErrorCode::kRuntime, "the state {} is {}, the pages of its group {} have {} positions", node.name,
           print(type), node.group, group->second->page_size);
  }

  static void check_seats(const Node& node) {
    const TensorType& type = node.types[0];
    if (type.rank() == 0 || type.shape[0] != Dim("seats"))
      fail(ErrorCode::kRuntime, "the state {} is {}; without a cache group it is [seats, ...]", node.name, print(type));
  }

  void check_op(int index, const Node& node) {
    Types types;
    for (Value value : node.inputs) {
      if (!exists(value, index)) fail(ErrorCode::kRuntime, "{} reads a value that is not before it", describe(index));
      auto successor = successors_.find(value);
      if (successor != successors_.end())
        fail(ErrorCode::kRuntime, "{} reads {} after {} has overwritten that version of the state {}", describe(index),
             print_value_name(network_, value), describe(successor->second), state_name(value));
      types.push_back(network_.type(value));
    }
    Types inferred;
    {
      Scope scope(node.label.empty() ? format("node {}", index) : node.label);
      inferred = node.op.infer(types);
    }
    if (inferred != node.types)
      fail(ErrorCode::kRuntime, "{} has other types than its op infers: {} and {}", describe(index), print(node.types),
           print(inferred));
    for (size_t i = 0; i < node.types.size(); ++i) check_alias(index, static_cast<int>(i), node);
  }

  void check_alias(int index, int result, const Node& node) {
    int input = node.op.aliased_input(result);
    if (input < 0) return;
    Value old = node.inputs[static_cast<size_t>(input)];
    auto version = versions_.find(old);
    if (version == versions_.end())
      fail(ErrorCode::kRuntime, "{} writes to {}, which is not a version of a state", describe(index),
           print_value_name(network_, old));
    int reads = 0;
    for (Value value : node.inputs) reads += value == old;
    if (reads != 1)
      fail(ErrorCode::kRuntime, "{} reads {} besides overwriting it", describe(index), print_value_name(network_, old));
    successors_[old] = index;
    versions_[{index, result}] = version->second;
  }

  void check_outputs() {
    std::set<std::string> names;
    for (const auto& [name, value] : network_.outputs()) {
      if (!names.insert(name).second) fail(ErrorCode::kRuntime, "two outputs are called \"{}\"", name);
      if (!exists(value, static_cast<int>(network_.nodes().size())))
        fail(ErrorCode::kRuntime, "the output \"{}\" is a value that does not exist", name);
      if (successors_.contains(value))
        fail(ErrorCode::kRuntime, "the output \"{}\" is {}, a version of the state {} that is overwritten", name,
             print_value_name(network_, value), state_name(value));
      if (versions_.contains(value) && state_name(value) != name)
        fail(ErrorCode::kRuntime, "the output \"{}\" is a version of the state {}, whose name it must have", name,
             state_name(value));
      outputs_.insert(value);
    }
  }

  void check_final(Value version, int state) const {
    bool written = version != Value{state, 0};
    if (written && !successors_.contains(version) && !outputs_.contains(version))
      fail(ErrorCode::kRuntime, "{} is the final version of the state {}, but not an output", describe(version.node),
           state_name(version));
  }

  const std::string& state_name(Value version) const {
    return network_.nodes()[static_cast<size_t>(versions_.at(version))].name;
  }

  static std::string print(const Types& types) {
    std::vector<std::string> texts;
    for (const TensorType& type : types) texts.push_back(ingot::print(type));
    return join(texts);
  }
  static std::string print(const TensorType& type) { return ingot::print(type); }

  const Network& network_;
  std::map<std::string, const CacheGroup*, std::less<>> groups_;
  std::set<std::string> names_;
  std::map<Value, int> versions_;    // versions of states, with the node of the state
  std::map<Value, int> successors_;  // overwritten versions, with the node that did it
  std::set<Value> outputs_;
};

}  // namespace

void verify(const Network& network) { Verifier(network).run(); }

}  // namespace ingot
