// Draws random networks, runs the passes and compares. A failure is shrunk and printed as a case for tests/passes.
//   test_passes --gtest_filter=RandomNetworks.* --networks=100000 --seed=7
#include "passes/random_network.h"

#include <gtest/gtest.h>

#include <random>

#include "ir/random_step.h"
#include "ir/sweep.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "passes/pass.h"
#include "passes/test_options.h"

namespace ingot::testing {
namespace {

// What the passes do wrong with `network`; empty: nothing.
std::string complaint(const Network& network, const std::vector<std::string>& disabled, PassReport* report = nullptr) {
  try {
    Network after = run_passes(network, disabled, report);
    return difference(network, after);
  } catch (const Error& error) {
    return error.what();
  }
}

// The network without op node `index`: its results become inputs, or the versions of states before it.
Network without_node(const Network& network, int index) {
  Sweep sweep(network);
  for (int i = 0; i < static_cast<int>(network.nodes().size()); ++i) {
    const Node& node = network.nodes()[static_cast<size_t>(i)];
    if (i != index) {
      sweep.copy(i);
      continue;
    }
    for (size_t result = 0; result < node.types.size(); ++result) {
      int alias = node.op.aliased_input(static_cast<int>(result));
      Value now = alias >= 0 ? sweep(node.inputs[static_cast<size_t>(alias)])
                             : sweep.out().add_input(sweep.fresh_name("cut"), node.types[result]);
      sweep.replace({i, static_cast<int>(result)}, now);
    }
  }
  return sweep.finish();
}

Network without_output(const Network& network, size_t index) {
  Network smaller = network;
  smaller.outputs().erase(smaller.outputs().begin() + static_cast<std::ptrdiff_t>(index));
  return remove_dead(smaller);
}

// With an input of what made output `index` in the place of that output.
Network with_earlier_output(const Network& network, size_t index, size_t input) {
  Network smaller = network;
  auto& [name, value] = smaller.outputs()[index];
  value = network.node(value).inputs[input];
  name = "earlier." + name;
  return remove_dead(smaller);
}

bool is_valid(const Network& network) {
  try {
    verify(network);
    return difference(network, network).empty();
  } catch (const Error&) {
    return false;
  }
}

// Without unread inputs and states, which remove_dead keeps.
Network without_unread_leaves(const Network& network) {
  std::map<Value, int> uses = network.uses();
  Sweep sweep(network);
  for (int i = 0; i < static_cast<int>(network.nodes().size()); ++i)
    if (network.nodes()[static_cast<size_t>(i)].kind == NodeKind::kOp || uses.contains({i, 0})) sweep.copy(i);
  for (const auto& [name, value] : network.outputs()) sweep.out().add_output(name, sweep(value));
  return std::move(sweep.out());
}

// The smallest network found that `fails`.
template <class Fails>
Network shrunk(Network network, Fails fails) {
  for (bool smaller = true; smaller;) {
    smaller = false;
    auto accept = [&](Network candidate) {
      if (!is_valid(candidate) || !fails(candidate)) return false;
      network = std::move(candidate);
      return smaller = true;
    };
    for (size_t i = 0; i < network.outputs().size();)
      if (network.outputs().size() == 1 || !accept(without_output(network, i))) ++i;
    for (size_t i = 0; i < network.outputs().size(); ++i)
      for (size_t input = 0; input < network.node(network.outputs()[i].second).inputs.size(); ++input)
        accept(with_earlier_output(network, i, input));
    for (size_t i = network.nodes().size(); i-- > 0;)
      if (i < network.nodes().size() && network.nodes()[i].kind == NodeKind::kOp)
        accept(without_node(network, static_cast<int>(i)));
  }
  return without_unread_leaves(network);
}

std::vector<std::string> draw_disabled(uint64_t seed) {
  std::mt19937_64 random(seed * 77);
  std::vector<std::string> disabled;
  if (random() % 2 == 0) return disabled;
  for (const Pass& pass : pass_list())
    if (random() % 4 == 0) disabled.emplace_back(pass.name);
  return disabled;
}

TEST(RandomNetworks, PassesKeepTheMeaning) {
  std::map<std::string_view, int> fired;
  for (int i = 0; i < test_options().networks; ++i) {
    uint64_t seed = test_options().seed + static_cast<uint64_t>(i);
    Network network = random_network(seed);
    std::vector<std::string> disabled = draw_disabled(seed);
    PassReport report;
    std::string found = complaint(network, disabled, &report);
    if (!found.empty()) {
      Network small = shrunk(network, [&](const Network& each) { return !complaint(each, disabled).empty(); });
      FAIL() << "seed " << seed << ": " << found << "\nwithout the passes [" << join(disabled) << "]\n"
             << "shrunk: " << complaint(small, disabled) << "\n--- found by random networks\n"
             << print(small) << "becomes\n";
    }
    for (const PassRun& run : report) fired[run.name] += run.fired;
  }
  // Otherwise the networks would miss what they are for.
  for (const auto& [name, count] : fired)
    if (name != "dead_code") {  // the others leave nothing for it
      EXPECT_GT(count, test_options().networks / 30) << name;
    }
}

TEST(RandomNetworks, AreTheSameForTheSameSeed) {
  EXPECT_EQ(print(random_network(5)), print(random_network(5)));
  EXPECT_NE(print(random_network(5)), print(random_network(6)));
}

TEST(RandomNetworks, TheirTextReadsBack) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::string text = print(random_network(seed));
    EXPECT_EQ(print(parse_network(text)), text);
  }
}

// A failure that is planted: tanh counts as wrong. What remains is one node.
TEST(RandomNetworks, ShrinkingKeepsOnlyTheCause) {
  auto has_tanh = [](const Network& network) {
    for (const Node& node : network.nodes())
      if (node.kind == NodeKind::kOp && node.op.attributes() == "{function = tanh}") return true;
    return false;
  };
  for (uint64_t seed = 1;; ++seed) {
    Network network = random_network(seed);
    if (!has_tanh(network)) continue;
    Network small = shrunk(network, has_tanh);
    int ops = 0;
    for (const Node& node : small.nodes()) ops += node.kind == NodeKind::kOp;
    EXPECT_EQ(ops, 1) << print(small);
    return;
  }
}

}  // namespace
}  // namespace ingot::testing
