// What part of a network a rule looks for, written like the text form:
//
//   multiply(act = activation(%gate), %up)
//
//   %x            binds any value; the same name twice binds the same value
//   @w            binds a weight
//   %rest...      binds the remaining inputs, as the last argument
//   op(…)         an op node; its result 0, or result N written op.N(…)
//   name = op(…)  the same, and the rewrite may ask for the node by name
//   op*(…)        may have readers outside the match: it stays for them. Without a mark an inner node has none.
//   op&(…)        may have readers outside the match: the rewrite replaces its results too
//
// add and multiply match with their inputs in both orders.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/network.h"

namespace ingot {

struct PatternNode {
  enum class Outside { kNone, kStays, kReplaced };
  struct Argument {
    std::string name;  // of a bound value, without '%' and '@'
    bool weight = false;
    int node = -1;  // an inner op instead
  };
  std::string name, op;
  int result = 0;
  Outside outside = Outside::kNone;
  std::vector<Argument> arguments;
  std::string rest;  // the name behind which the remaining inputs go; empty: there are none
};

// Where a pattern was found. Bound values are those of the network that was searched.
struct Found {
  std::vector<int> nodes;  // per pattern node
  std::map<std::string, Value, std::less<>> values;
  std::map<std::string, Values, std::less<>> rests;
  bool swapped = false;  // the inputs of some add or multiply match in the other order than they are written
};

class Pattern {
 public:
  // Throws an Error when the text is no pattern.
  explicit Pattern(std::string_view text);

  // nodes()[0] is the root; inner nodes follow in the order of the text.
  const std::vector<PatternNode>& nodes() const { return nodes_; }
  // Every way in which the pattern fits with its root at `root`: more than one where inputs match in both orders.
  // `uses` is network.uses().
  std::vector<Found> find(const Network& network, int root, const std::map<Value, int>& uses) const;

 private:
  int parse_node(Lexer& lexer, std::string name, int depth);
  bool match(const Network& network, int pattern, Value value, unsigned swapped, Found& found) const;
  bool bind(const Network& network, const PatternNode::Argument& argument, Value value, unsigned swapped,
            Found& found) const;
  bool has_outside_readers(const Network& network, const Found& found, const std::map<Value, int>& uses) const;

  std::vector<PatternNode> nodes_;
  std::vector<int> commutative_;  // pattern nodes whose inputs may be swapped
};

}  // namespace ingot
