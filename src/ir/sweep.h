// Rebuilding a network node by node, which is how every pass works.
#pragma once

#include <set>

#include "ir/network.h"

namespace ingot {

// Walks an old network in its order and builds a new one. Every op node is either copied or its results are replaced.
class Sweep {
 public:
  // `old` must outlive the sweep. The new network begins with its dimensions and groups.
  explicit Sweep(const Network& old);

  const Network& old() const { return old_; }
  Network& out() { return out_; }

  // Whether `value` of the old network has its counterpart, or is a leaf, which gets one when asked for.
  bool has(Value value) const;
  Value operator()(Value value);
  Values operator()(const Values& values);

  // Copies a node with its label and origins. Results that were replaced before stay replaced.
  void copy(int node);
  // `value` of the old network is `now` of the new one from here on; its origins go there. The types must be equal.
  void replace(Value value, Value now);

  // `wished`, or with a number behind it, so that no leaf of either network has that name.
  std::string fresh_name(const std::string& wished);
  // A new weight with a fresh name.
  Value add_weight(const std::string& wished_name, Recipe recipe, TensorType type);

  // Adds the outputs; nodes that nothing needs are gone.
  Network finish();

 private:
  const Network& old_;
  Network out_;
  std::vector<std::vector<Value>> now_;  // per old node and result; {-1} where there is none yet
  std::set<std::string> names_;
};

// Without the ops and weights that no output needs. Inputs and states stay: they are the network's interface.
Network remove_dead(const Network& network);

}  // namespace ingot
