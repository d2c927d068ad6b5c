#include "ir/pattern.h"

#include <algorithm>

#include "base/fields.h"

namespace ingot {

namespace {
constexpr int kMaxDepth = 16;
constexpr size_t kMaxCommutative = 8;
}  // namespace

Pattern::Pattern(std::string_view text) {
  Scope scope(format("the pattern \"{}\"", text));
  Lexer lexer(text, /*one_line=*/true);
  parse_node(lexer, "", 0);
  if (!lexer.at_end()) lexer.fail("the end of the pattern");
  if (commutative_.size() > kMaxCommutative) lexer.fail("fewer add and multiply");
}

// `name` is a name that was read already, or empty.
int Pattern::parse_node(Lexer& lexer, std::string name, int depth) {
  if (depth > kMaxDepth) lexer.fail("fewer nested ops");
  PatternNode node;
  node.op = lexer.word("an op");
  if (lexer.accept("=")) {
    node.name = node.op;
    node.op = lexer.word("an op");
  }
  if (!name.empty()) node.name = std::move(name);
  if (size_t dot = node.op.find('.'); dot != std::string::npos) {
    if (dot + 2 != node.op.size() || node.op[dot + 1] < '0' || node.op[dot + 1] > '9') lexer.fail("op.N, a result");
    node.result = node.op[dot + 1] - '0';
    node.op.resize(dot);
  }
  if (lexer.accept("*")) node.outside = PatternNode::Outside::kStays;
  if (lexer.accept("&")) node.outside = PatternNode::Outside::kReplaced;
  int index = static_cast<int>(nodes_.size());
  nodes_.push_back(node);  // its place; inner nodes come behind it
  lexer.expect("(");
  while (!lexer.accept(")")) {
    if (!node.arguments.empty()) lexer.expect(",");
    if (!lexer.peek("%") && !lexer.peek("@")) {
      node.arguments.push_back({"", false, parse_node(lexer, "", depth + 1)});
      continue;
    }
    std::string word = lexer.word("a value");
    if (word.ends_with("...")) {
      node.rest = word.substr(1, word.size() - 4);
      lexer.expect(")");
      break;
    }
    node.arguments.push_back({word.substr(1), word[0] == '@', -1});
  }
  bool commutes = (node.op == "add" || node.op == "multiply") && node.arguments.size() == 2;
  if (commutes) commutative_.push_back(index);
  nodes_[static_cast<size_t>(index)] = std::move(node);
  return index;
}

std::vector<Found> Pattern::find(const Network& network, int root, const std::map<Value, int>& uses) const {
  std::vector<Found> all;
  if (network.nodes()[static_cast<size_t>(root)].kind != NodeKind::kOp ||
      network.nodes()[static_cast<size_t>(root)].op.name() != nodes_[0].op)
    return all;
  for (unsigned swapped = 0; swapped < 1u << commutative_.size(); ++swapped) {
    Found found;
    found.nodes.assign(nodes_.size(), -1);
    found.swapped = swapped != 0;
    if (match(network, 0, {root, nodes_[0].result}, swapped, found) && !has_outside_readers(network, found, uses))
      all.push_back(std::move(found));
  }
  return all;
}

bool Pattern::match(const Network& network, int index, Value value, unsigned swapped, Found& found) const {
  const PatternNode& pattern = nodes_[static_cast<size_t>(index)];
  const Node& node = network.node(value);
  if (node.kind != NodeKind::kOp || node.op.name() != pattern.op || value.result != pattern.result) return false;
  size_t count = pattern.arguments.size();
  if (node.inputs.size() < count || (pattern.rest.empty() && node.inputs.size() > count)) return false;
  found.nodes[static_cast<size_t>(index)] = value.node;
  auto commutative = std::find(commutative_.begin(), commutative_.end(), index);
  bool swap = commutative != commutative_.end() && ((swapped >> (commutative - commutative_.begin())) & 1) != 0;
  for (size_t i = 0; i < count; ++i)
    if (!bind(network, pattern.arguments[i], node.inputs[swap ? count - 1 - i : i], swapped, found)) return false;
  if (!pattern.rest.empty()) {
    Values rest(node.inputs.begin() + static_cast<std::ptrdiff_t>(count), node.inputs.end());
    auto [place, added] = found.rests.emplace(pattern.rest, rest);
    if (!added && place->second != rest) return false;
  }
  return true;
}

bool Pattern::bind(const Network& network, const PatternNode::Argument& argument, Value value, unsigned swapped,
                   Found& found) const {
  if (argument.node >= 0) return match(network, argument.node, value, swapped, found);
  if (argument.weight && network.node(value).kind != NodeKind::kWeight) return false;
  auto [place, added] = found.values.emplace(argument.name, value);
  return added || place->second == value;
}

bool Pattern::has_outside_readers(const Network& network, const Found& found, const std::map<Value, int>& uses) const {
  for (size_t i = 1; i < nodes_.size(); ++i) {
    if (nodes_[i].outside != PatternNode::Outside::kNone) continue;
    int node = found.nodes[i], readers = 0;
    for (size_t result = 0; result < network.nodes()[static_cast<size_t>(node)].types.size(); ++result) {
      auto count = uses.find({node, static_cast<int>(result)});
      readers += count == uses.end() ? 0 : count->second;
    }
    if (readers != std::count(found.nodes.begin() + 1, found.nodes.end(), node)) return true;
  }
  return false;
}

}  // namespace ingot
