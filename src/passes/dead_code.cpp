#include "passes/passes.h"

namespace ingot {

Network dead_code(Network network, const PassContext& context) {
  Network alive = remove_dead(network);
  context.log.fired += static_cast<int>(network.nodes().size() - alive.nodes().size());
  return alive;
}

}  // namespace ingot
