#include "passes/passes.h"

namespace ingot {

namespace {

bool continues_state(const Node& node) {
  for (size_t i = 0; i < node.types.size(); ++i)
    if (node.op.aliased_input(static_cast<int>(i)) >= 0) return true;
  return false;
}

// Equal for nodes that compute the same; empty for those that must stay alone.
std::string key_of(const Node& node, Sweep& sweep) {
  if (node.kind == NodeKind::kWeight) return "weight " + print(node.types[0]) + print(node.recipe);
  if (node.kind != NodeKind::kOp || continues_state(node)) return "";
  std::string key(node.op.name());
  for (Value value : sweep(node.inputs)) key += format(" {}.{}", value.node, value.result);
  return key + node.op.attributes();
}

}  // namespace

Network common_subexpressions(Network network, const PassContext& context) {
  Sweep sweep(network);
  std::map<std::string, int> first;  // nodes of the old network
  int removed = 0;
  for (size_t i = 0; i < network.nodes().size(); ++i) {
    const Node& node = network.nodes()[i];
    int index = static_cast<int>(i);
    std::string key = key_of(node, sweep);
    auto [place, added] = first.emplace(key, index);
    if (key.empty() || added) {
      sweep.copy(index);
      continue;
    }
    ++removed;
    for (size_t result = 0; result < node.types.size(); ++result)
      sweep.replace({index, static_cast<int>(result)}, sweep({place->second, static_cast<int>(result)}));
  }
  context.log.fired += removed;
  return removed == 0 ? network : sweep.finish();
}

}  // namespace ingot
