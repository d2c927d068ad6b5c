#include "ir/network.h"

#include <algorithm>

namespace ingot {

namespace {

// Names and labels stand on one line of the text form.
void check_printable(const std::string& text, std::string_view what) {
  for (char c : text)
    if (static_cast<unsigned char>(c) < ' ')
      fail(ErrorCode::kRuntime, "the {} \"{}\" holds a control character", what, text);
}

std::string describe(const AnyOp& op, const std::string& label, const Types& types) {
  std::vector<std::string> texts;
  for (const TensorType& type : types) texts.push_back(print(type));
  std::string text = format("{}({}){}", op.name(), join(texts), op.attributes());
  return label.empty() ? text : format("{} ({})", text, label);
}

}  // namespace

Value Network::add_leaf(Node node) {
  if (node.name.empty()) fail(ErrorCode::kRuntime, "an input, weight or state needs a name");
  check_printable(node.name, "name");
  node.origins.resize(node.types.size());
  nodes_.push_back(std::move(node));
  return {static_cast<int>(nodes_.size()) - 1, 0};
}

Value Network::add_input(std::string name, TensorType type) {
  Node node;
  node.kind = NodeKind::kInput;
  node.name = std::move(name);
  node.types = {std::move(type)};
  return add_leaf(std::move(node));
}

Value Network::add_weight(std::string name, Recipe recipe, TensorType type) {
  if (!recipe) fail(ErrorCode::kRuntime, "the weight \"{}\" has no recipe", name);
  if (!type.is_constant())
    fail(ErrorCode::kRuntime, "the weight \"{}\" has the type {}, it must be constant", name, print(type));
  Node node;
  node.kind = NodeKind::kWeight;
  node.name = std::move(name);
  node.recipe = std::move(recipe);
  node.types = {std::move(type)};
  return add_leaf(std::move(node));
}

Value Network::add_state(std::string name, TensorType type, std::string group) {
  Node node;
  node.kind = NodeKind::kState;
  node.name = std::move(name);
  node.group = std::move(group);
  node.types = {std::move(type)};
  return add_leaf(std::move(node));
}

Values Network::add(AnyOp op, Values inputs, std::string label) {
  check_printable(label, "label");
  Types types;
  for (Value value : inputs) {
    bool exists = value.node >= 0 && value.node < static_cast<int>(nodes_.size()) && value.result >= 0 &&
                  value.result < static_cast<int>(node(value).types.size());
    if (!exists) fail(ErrorCode::kRuntime, "{} ({}) reads a value that does not exist", op.name(), label);
    types.push_back(type(value));
  }
  Node node;
  try {
    node.types = op.infer(types);
  } catch (const Error&) {  // describing every op that fits would take longer than inferring
    Scope scope(describe(op, label, types));
    op.infer(types);
    throw;
  }
  node.op = std::move(op);
  node.inputs = std::move(inputs);
  node.label = std::move(label);
  node.origins.resize(node.types.size());
  Values results;
  for (size_t i = 0; i < node.types.size(); ++i)
    results.push_back({static_cast<int>(nodes_.size()), static_cast<int>(i)});
  nodes_.push_back(std::move(node));
  return results;
}

Value Network::add_one(AnyOp op, Values inputs, std::string label) {
  Values results = add(std::move(op), std::move(inputs), std::move(label));
  if (results.size() != 1)
    fail(ErrorCode::kRuntime, "{} has {} results where one is needed", nodes_.back().op.name(), results.size());
  return results[0];
}

void Network::add_output(std::string name, Value value) {
  check_printable(name, "name");
  outputs_.emplace_back(std::move(name), value);
}

Value Network::find(std::string_view name) const {
  for (size_t i = 0; i < nodes_.size(); ++i)
    if (nodes_[i].kind != NodeKind::kOp && nodes_[i].name == name) return {static_cast<int>(i), 0};
  return {};
}

std::map<Value, int> Network::uses() const {
  std::map<Value, int> uses;
  for (const Node& node : nodes_)
    for (Value value : node.inputs) ++uses[value];
  for (const auto& [name, value] : outputs_) ++uses[value];
  return uses;
}

}  // namespace ingot
