// Rules: a pattern and what to put in its place; and the sweep that applies them.
#pragma once

#include <span>
#include <variant>

#include "ir/pattern.h"
#include "ir/sweep.h"

namespace ingot {

// What a rewrite sees. Values are those of the network that is being built; nodes and types those of the old network.
class Match {
 public:
  Match(const Pattern& pattern, const Found& found, const std::map<Value, int>& uses, Sweep& sweep)
      : pattern_(pattern), found_(found), uses_(uses), sweep_(sweep) {}

  Value operator[](std::string_view value) const { return sweep_(old(value)); }
  Values rest(std::string_view name) const { return sweep_(found_.rests.at(std::string(name))); }
  // {first, …, rest}: the inputs of an op.
  Values inputs(Values first, std::string_view rest) const;

  // The node that a pattern names; for a bound value, the node that makes it.
  const Node& node(std::string_view name) const;
  const Node& root() const { return sweep_.old().nodes()[static_cast<size_t>(found_.nodes[0])]; }
  template <class T>
  const T& op(std::string_view name) const {
    return *node(name).op.template as<T>();
  }
  template <class T>
  const T& root_op() const {
    return *root().op.template as<T>();
  }
  const TensorType& type(std::string_view value) const { return sweep_.old().type(old(value)); }
  // Whether the inputs of some add or multiply match in the other order than they are written.
  bool is_swapped() const { return found_.swapped; }
  // How often the bound value is read, in and outside the match.
  int uses(std::string_view value) const { return uses_.at(old(value)); }
  // The node that makes input `index` of a rest.
  const Node& rest_node(std::string_view rest, size_t index) const;

  // A new weight; the name gets a number when it is taken.
  Value add_weight(const std::string& wished_name, Recipe recipe, TensorType type) const {
    return sweep_.add_weight(wished_name, std::move(recipe), std::move(type));
  }

 private:
  Value old(std::string_view value) const { return found_.values.find(value)->second; }

  const Pattern& pattern_;
  const Found& found_;
  const std::map<Value, int>& uses_;
  Sweep& sweep_;
};

// The results that replace those of the root and then, in the order of the pattern, those of every `&` node; or why the
// rule does not apply here. An empty reason is one that nobody needs to read.
using Rewritten = std::variant<Values, Unsupported>;

struct Rule {
  std::string_view name;
  std::string_view pattern;
  // New nodes without a label get the root's.
  Rewritten (*rewrite)(const Match& match, Network& out);
};

// What rules did.
struct RewriteLog {
  int fired = 0;
  std::vector<std::string> refusals;  // "rule at label: reason", each once
};

// Applies the rules until none fires. Per node the earlier rule is tried first. A rule with `&` nodes builds where the
// first of them stood; it is refused where a value it needs comes later, or where it would overwrite a state before
// somebody reads it. The network itself comes back when nothing fired.
Network apply_rules(Network network, std::span<const Rule> rules, RewriteLog& log);

}  // namespace ingot
