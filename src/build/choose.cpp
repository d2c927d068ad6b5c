#include "build/choose.h"

#include <algorithm>
#include <limits>
#include <set>

namespace ingot {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Second copies of weights must make the weighted step this much faster. Weights with the same problems (those of every
// layer) are judged together, for alone each is a small part of a step.
constexpr double kSecondCopyGain = 0.03;

using Layouts = std::vector<std::string>;  // of the weights of one set

// One use of a weight set: a node in a program, with the candidates that may serve it.
struct Use {
  size_t program, node;
  const ProblemTimings* timings;
  std::vector<size_t> inputs;  // which inputs of the node are the set's weights
};

// Weights that one op takes together, so that their layouts are decided together (usually a single weight).
struct WeightSet {
  std::vector<Use> uses;
};

const TimedTactic* best_of(const ProblemTimings& timings, const std::vector<size_t>& inputs, const Layouts* layouts) {
  const TimedTactic* best = nullptr;
  for (const TimedTactic& candidate : timings.candidates) {
    if (candidate.timing.dropped) continue;
    bool fits = true;
    for (size_t i = 0; layouts && i < inputs.size(); ++i)
      fits = fits && candidate.compiled.input_layouts[inputs[i]] == (*layouts)[i];
    if (fits && (!best || candidate.timing.microseconds < best->timing.microseconds)) best = &candidate;
  }
  return best;
}

double time_of(const TimedTactic* tactic) { return tactic ? tactic->timing.microseconds : kInfinity; }

class Chooser {
 public:
  Chooser(const Network& network, const std::vector<ProgramShape>& programs, const Timings& timings)
      : network_(network), programs_(programs), guessed_(timings.cache_hits + timings.measured == 0) {
    for (const ProblemTimings& problem : timings.problems) by_key_[problem.problem.key()] = &problem;
  }

  Choice run() {
    choice_.programs.assign(programs_.size(), TacticTable(network_.nodes().size(), nullptr));
    collect();
    std::map<std::vector<const ProblemTimings*>, int64_t> alike;
    for (auto& [weights, set] : sets_) ++alike[problems_of(set)];
    for (auto& [weights, set] : sets_) decide(weights, set, alike[problems_of(set)]);
    return std::move(choice_);
  }

 private:
  // Sorts every use into its weight set and every op without such weights straight into the table.
  void collect() {
    step_time_.assign(programs_.size(), 0);
    for (size_t p = 0; p < programs_.size(); ++p)
      for (size_t n = 0; n < network_.nodes().size(); ++n) {
        const Node& node = network_.nodes()[n];
        if (node.kind != NodeKind::kOp) continue;
        const ProblemTimings& timings = *by_key_.at(problem_at(network_, node, programs_[p].opt).key());
        const TimedTactic* best = best_of(timings, {}, nullptr);
        step_time_[p] += time_of(best);
        Use use{p, n, &timings, {}};
        std::vector<Value> weights;
        for (size_t i = 0; i < node.inputs.size(); ++i)
          if (network_.node(node.inputs[i]).kind == NodeKind::kWeight && network_.type(node.inputs[i]).rank() >= 2) {
            use.inputs.push_back(i);
            weights.push_back(node.inputs[i]);
          }
        if (weights.empty())
          choice_.programs[p][n] = best;
        else
          sets_[weights].uses.push_back(std::move(use));
      }
  }

  // The share of a step's time that a use takes, weighted: generating one token at a time counts most, then the largest
  // step, which is a long prefill.
  double cost(const Use& use, const TimedTactic* tactic) const {
    return program_weight(use.program) * time_of(tactic) / step_time_[use.program];
  }

  double program_weight(size_t program) const { return program == 0 ? 4 : program + 1 == programs_.size() ? 2 : 1; }

  double step_cost() const {
    double total = 0;
    for (size_t p = 0; p < programs_.size(); ++p) total += program_weight(p);
    return total;
  }

  static std::vector<const ProblemTimings*> problems_of(const WeightSet& set) {
    std::vector<const ProblemTimings*> problems;
    for (const Use& use : set.uses) problems.push_back(use.timings);
    return problems;
  }

  double cost(const WeightSet& set, const Layouts& first, const Layouts* second) const {
    double total = 0;
    for (const Use& use : set.uses) {
      double one = cost(use, best_of(*use.timings, use.inputs, &first));
      double two = second ? cost(use, best_of(*use.timings, use.inputs, second)) : kInfinity;
      total += std::min(one, two);
    }
    return total;
  }

  // `alike`: how many weight sets have the same problems.
  void decide(const std::vector<Value>& weights, WeightSet& set, int64_t alike) {
    std::vector<Layouts> options = layouts_of(set);
    const Layouts* first = nullptr;
    double least = kInfinity;
    for (const Layouts& option : options)
      if (double c = cost(set, option, nullptr); c < least) least = c, first = &option;
    const Layouts* second = nullptr;
    std::pair<const Layouts*, const Layouts*> pair{nullptr, nullptr};
    double pair_cost = least - kSecondCopyGain * step_cost() / static_cast<double>(alike);
    if (guessed_ && least < kInfinity) pair_cost = 0;  // only a measured gain is worth a copy
    for (size_t a = 0; a < options.size(); ++a)
      for (size_t b = a + 1; b < options.size(); ++b)
        if (double c = cost(set, options[a], &options[b]); c < pair_cost)
          pair_cost = c, pair = {&options[a], &options[b]};
    if (pair.first) {
      first = pair.first, second = pair.second;
      choice_.remarks.push_back(
          format("{} is stored twice, as {} and {}: {}", network_.node(weights[0]).name, shown(*first), shown(*second),
                 least == kInfinity ? std::string("no single layout serves all its users")
                                    : format("the step gains {:.1f} %",
                                             100 * static_cast<double>(alike) * (least - pair_cost) / step_cost())));
    }
    if (!first) fail(ErrorCode::kRuntime, "no layout of {} serves all its users", network_.node(weights[0]).name);
    for (const Use& use : set.uses) {
      const TimedTactic* one = best_of(*use.timings, use.inputs, first);
      const TimedTactic* two = second ? best_of(*use.timings, use.inputs, second) : nullptr;
      choice_.programs[use.program][use.node] = time_of(two) < time_of(one) ? two : one;
    }
  }

  static std::vector<Layouts> layouts_of(const WeightSet& set) {
    std::set<Layouts> found;
    for (const Use& use : set.uses)
      for (const TimedTactic& candidate : use.timings->candidates) {
        Layouts layouts;
        for (size_t input : use.inputs) layouts.push_back(candidate.compiled.input_layouts[input]);
        found.insert(std::move(layouts));
      }
    return {found.begin(), found.end()};
  }

  static std::string shown(const Layouts& layouts) {
    std::vector<std::string> names;
    for (const std::string& layout : layouts) names.push_back(layout.empty() ? "row major" : layout);
    return join(names, " and ");
  }

  const Network& network_;
  const std::vector<ProgramShape>& programs_;
  bool guessed_;
  std::map<std::string, const ProblemTimings*> by_key_;
  std::vector<double> step_time_;
  std::map<std::vector<Value>, WeightSet> sets_;
  Choice choice_;
};

}  // namespace

Choice choose(const Network& network, const std::vector<ProgramShape>& programs, const Timings& timings) {
  return Chooser(network, programs, timings).run();
}

}  // namespace ingot
