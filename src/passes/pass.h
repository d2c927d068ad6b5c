// Passes: from a network to a better network that means the same.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/rewrite.h"

namespace ingot {

struct PassContext {
  RewriteLog& log;
};

struct Pass {
  std::string_view name;  // as in --disable
  // The result computes the same outputs from the same inputs, states and checkpoint tensors, up to rounding.
  Network (*run)(Network, const PassContext&);
};

// Every pass, in the order in which they run.
std::span<const Pass> pass_list();

// What one pass did.
struct PassRun {
  std::string_view name;
  bool disabled = false;
  double milliseconds = 0;
  size_t nodes_before = 0, nodes_after = 0;
  int fired = 0;
  std::vector<std::string> refusals;
};
using PassReport = std::vector<PassRun>;

// Runs every pass but the disabled ones, verifies the network after each, and logs each at debug level with its
// refusals. Values that no pass has named yet get their origins first. An unknown name in `disabled` is a usage Error
// that names the nearest pass.
Network run_passes(Network network, const std::vector<std::string>& disabled = {}, PassReport* report = nullptr);

// Gives every op result that has none an origin: its label, or its op's name; with a number behind it when taken.
void mark_origins(Network& network);

}  // namespace ingot
