#include "ir/sweep.h"

namespace ingot {

Sweep::Sweep(const Network& old) : old_(old) {
  out_.dims = old.dims;
  out_.groups = old.groups;
  now_.resize(old.nodes().size());
  for (size_t i = 0; i < now_.size(); ++i) {
    now_[i].resize(old.nodes()[i].types.size());
    if (old.nodes()[i].kind != NodeKind::kOp) names_.insert(old.nodes()[i].name);
  }
}

bool Sweep::has(Value value) const {
  return old_.node(value).kind != NodeKind::kOp ||
         now_[static_cast<size_t>(value.node)][static_cast<size_t>(value.result)].node >= 0;
}

Value Sweep::operator()(Value value) {
  Value& now = now_[static_cast<size_t>(value.node)][static_cast<size_t>(value.result)];
  if (now.node < 0 && old_.node(value).kind != NodeKind::kOp) copy(value.node);
  if (now.node < 0) fail(ErrorCode::kRuntime, "a pass reads a value before it is built");
  return now;
}

Values Sweep::operator()(const Values& values) {
  Values now;
  for (Value value : values) now.push_back((*this)(value));
  return now;
}

void Sweep::copy(int index) {
  const Node& node = old_.nodes()[static_cast<size_t>(index)];
  std::vector<Value>& now = now_[static_cast<size_t>(index)];
  bool wanted = false;
  for (Value value : now) wanted = wanted || value.node < 0;
  if (!wanted) return;
  Values copies;
  switch (node.kind) {
    case NodeKind::kInput:
      copies = {out_.add_input(node.name, node.types[0])};
      break;
    case NodeKind::kWeight:
      copies = {out_.add_weight(node.name, node.recipe, node.types[0])};
      break;
    case NodeKind::kState:
      copies = {out_.add_state(node.name, node.types[0], node.group)};
      break;
    case NodeKind::kOp:
      copies = out_.add(node.op, (*this)(node.inputs));
      break;
  }
  out_.mutable_node(copies[0]).label = node.label;
  for (size_t i = 0; i < copies.size(); ++i)
    if (now[i].node < 0) replace({index, static_cast<int>(i)}, copies[i]);
}

void Sweep::replace(Value value, Value now) {
  if (old_.type(value) != out_.type(now))
    fail(ErrorCode::kRuntime, "a pass replaces {} ({}) by {}", print(old_.type(value)), old_.node(value).label,
         print(out_.type(now)));
  now_[static_cast<size_t>(value.node)][static_cast<size_t>(value.result)] = now;
  const auto& from = old_.node(value).origins[static_cast<size_t>(value.result)];
  auto& to = out_.mutable_node(now).origins[static_cast<size_t>(now.result)];
  to.insert(to.end(), from.begin(), from.end());
}

std::string Sweep::fresh_name(const std::string& wished) {
  std::string name = wished;
  for (int number = 2; !names_.insert(name).second; ++number) name = format("{}-{}", wished, number);
  return name;
}

Value Sweep::add_weight(const std::string& wished_name, Recipe recipe, TensorType type) {
  return out_.add_weight(fresh_name(wished_name), std::move(recipe), std::move(type));
}

Network Sweep::finish() {
  for (const auto& [name, value] : old_.outputs()) out_.add_output(name, (*this)(value));
  return remove_dead(out_);
}

Network remove_dead(const Network& network) {
  std::vector<bool> live(network.nodes().size());
  for (const auto& [name, value] : network.outputs()) live[static_cast<size_t>(value.node)] = true;
  for (size_t i = live.size(); i-- > 0;) {
    const Node& node = network.nodes()[i];
    if (node.kind == NodeKind::kInput || node.kind == NodeKind::kState) live[i] = true;
    if (!live[i]) continue;
    for (Value value : node.inputs) live[static_cast<size_t>(value.node)] = true;
  }
  Sweep sweep(network);
  for (size_t i = 0; i < live.size(); ++i)
    if (live[i]) sweep.copy(static_cast<int>(i));
  for (const auto& [name, value] : network.outputs()) sweep.out().add_output(name, sweep(value));
  return std::move(sweep.out());
}

}  // namespace ingot
