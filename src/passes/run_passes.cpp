#include <algorithm>
#include <chrono>
#include <set>

#include "base/log.h"
#include "ir/verify.h"
#include "passes/pass.h"

namespace ingot {

namespace {

void check_names(const std::vector<std::string>& disabled) {
  std::vector<std::string> names;
  for (const Pass& pass : pass_list()) names.emplace_back(pass.name);
  for (const std::string& name : disabled)
    if (std::find(names.begin(), names.end(), name) == names.end())
      fail(ErrorCode::kUsage, "there is no pass \"{}\" to disable; the nearest is \"{}\"; all: {}", name,
           nearest(name, names), join(names));
}

Network run_one(const Pass& pass, Network network, PassRun& run) {
  auto begin = std::chrono::steady_clock::now();
  run.nodes_before = network.nodes().size();
  RewriteLog log;
  {
    Scope scope(format("the pass {}", pass.name));
    network = pass.run(std::move(network), PassContext{log});
    verify(network);
  }
  run.nodes_after = network.nodes().size();
  run.fired = log.fired;
  run.refusals = std::move(log.refusals);
  run.milliseconds = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  log_debug("pass {}: fired {} times, {} nodes, then {}, {:.1f} ms", run.name, run.fired, run.nodes_before,
            run.nodes_after, run.milliseconds);
  for (const std::string& refusal : run.refusals) log_debug("  {}", refusal);
  return network;
}

}  // namespace

Network run_passes(Network network, const std::vector<std::string>& disabled, PassReport* report) {
  check_names(disabled);
  verify(network);
  mark_origins(network);
  for (const Pass& pass : pass_list()) {
    PassRun run;
    run.name = pass.name;
    run.disabled = std::find(disabled.begin(), disabled.end(), pass.name) != disabled.end();
    if (run.disabled) {
      run.nodes_before = run.nodes_after = network.nodes().size();
      log_debug("pass {}: disabled", run.name);
    } else {
      network = run_one(pass, std::move(network), run);
    }
    if (report) report->push_back(std::move(run));
  }
  return network;
}

void mark_origins(Network& network) {
  std::set<std::string> taken;
  for (const Node& node : network.nodes())
    for (const auto& names : node.origins) taken.insert(names.begin(), names.end());
  for (size_t i = 0; i < network.nodes().size(); ++i) {
    Node& node = network.mutable_node({static_cast<int>(i), 0});
    if (node.kind != NodeKind::kOp) continue;
    for (size_t result = 0; result < node.types.size(); ++result) {
      if (!node.origins[result].empty()) continue;
      std::string wished = node.label.empty() ? std::string(node.op.name()) : node.label;
      if (result > 0) wished += "." + std::to_string(result);
      std::string name = wished;
      for (int number = 2; !taken.insert(name).second; ++number) name = format("{}#{}", wished, number);
      node.origins[result] = {std::move(name)};
    }
  }
}

}  // namespace ingot
