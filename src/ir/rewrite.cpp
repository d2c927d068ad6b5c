#include "ir/rewrite.h"

#include <algorithm>

namespace ingot {

namespace {

constexpr int kMaxSweeps = 64;

// One way to apply one rule.
struct Candidate {
  const Rule* rule;
  const Pattern* pattern;
  Found found;
};

// The nodes that a match takes for itself.
std::vector<int> taken_nodes(const Candidate& candidate) {
  std::vector<int> taken;
  for (size_t i = 0; i < candidate.found.nodes.size(); ++i)
    if (i == 0 || candidate.pattern->nodes()[i].outside != PatternNode::Outside::kStays)
      taken.push_back(candidate.found.nodes[i]);
  return taken;
}

// Where the new nodes go: before the first reader that a replaced result may have.
int position(const Candidate& candidate) {
  int first = candidate.found.nodes[0];
  for (size_t i = 1; i < candidate.found.nodes.size(); ++i)
    if (candidate.pattern->nodes()[i].outside == PatternNode::Outside::kReplaced)
      first = std::min(first, candidate.found.nodes[i]);
  return first;
}

class RuleSweep {
 public:
  RuleSweep(const Network& network, std::span<const Rule> rules, const std::vector<Pattern>& patterns, RewriteLog& log)
      : network_(network), uses_(network.uses()), sweep_(network), log_(log), taken_(network.nodes().size()) {
    for (size_t root = 0; root < network.nodes().size(); ++root)
      for (size_t i = 0; i < rules.size(); ++i)
        for (Found& found : patterns[i].find(network, static_cast<int>(root), uses_)) {
          Candidate candidate{&rules[i], &patterns[i], std::move(found)};
          candidates_.emplace(position(candidate), std::move(candidate));
        }
  }

  bool run() {
    for (int index = 0; index < static_cast<int>(network_.nodes().size()); ++index) {
      auto [begin, end] = candidates_.equal_range(index);
      for (auto each = begin; each != end; ++each) try_candidate(index, each->second);
      sweep_.copy(index);
    }
    return fired_;
  }

  Network finish() { return sweep_.finish(); }

 private:
  void try_candidate(int index, const Candidate& candidate) {
    std::vector<int> taken = taken_nodes(candidate);
    for (int node : taken)
      if (taken_[static_cast<size_t>(node)]) return;
    std::string reason = obstacle(index, candidate, taken);
    if (reason.empty()) {
      Match match(*candidate.pattern, candidate.found, uses_, sweep_);
      size_t first_new = sweep_.out().nodes().size();
      Rewritten rewritten = candidate.rule->rewrite(match, sweep_.out());
      if (const Values* values = std::get_if<Values>(&rewritten)) {
        accept(candidate, *values, first_new);
        for (int node : taken) taken_[static_cast<size_t>(node)] = true;
        return;
      }
      reason = std::get<Unsupported>(rewritten).reason;
    }
    if (!reason.empty()) refuse(candidate, reason);
  }

  // Why the new nodes cannot stand where node `index` stood; empty: they can.
  std::string obstacle(int index, const Candidate& candidate, const std::vector<int>& taken) const {
    for (const auto& [name, value] : candidate.found.values)
      if (!sweep_.has(value)) return format("%{} comes later than the result that would be replaced", name);
    for (const auto& [name, values] : candidate.found.rests)
      for (Value value : values)
        if (!sweep_.has(value))
          return format("an input of %{} comes later than the result that would be replaced", name);
    for (int node : taken)
      if (node > index && overtakes_reader(index, node, taken))
        return "it would overwrite a state before another node has read it";
    return "";
  }

  // Whether `node`, moved up to `index`, would overwrite a state before somebody between them reads it.
  bool overtakes_reader(int index, int node, const std::vector<int>& taken) const {
    const Node& writer = network_.nodes()[static_cast<size_t>(node)];
    for (size_t result = 0; result < writer.types.size(); ++result) {
      int input = writer.op.aliased_input(static_cast<int>(result));
      if (input < 0) continue;
      for (int i = index; i < node; ++i) {
        if (std::find(taken.begin(), taken.end(), i) != taken.end()) continue;
        const Values& reads = network_.nodes()[static_cast<size_t>(i)].inputs;
        if (std::find(reads.begin(), reads.end(), writer.inputs[static_cast<size_t>(input)]) != reads.end())
          return true;
      }
    }
    return false;
  }

  void accept(const Candidate& candidate, const Values& values, size_t first_new) {
    fired_ = true;
    ++log_.fired;
    const Node& root = network_.nodes()[static_cast<size_t>(candidate.found.nodes[0])];
    for (size_t i = first_new; i < sweep_.out().nodes().size(); ++i) {
      Node& node = sweep_.out().mutable_node({static_cast<int>(i), 0});
      if (node.kind == NodeKind::kOp && node.label.empty()) node.label = root.label;
    }
    size_t next = 0;
    for (size_t i = 0; i < candidate.found.nodes.size(); ++i) {
      if (i > 0 && candidate.pattern->nodes()[i].outside != PatternNode::Outside::kReplaced) continue;
      int node = candidate.found.nodes[i];
      for (size_t result = 0; result < network_.nodes()[static_cast<size_t>(node)].types.size(); ++result) {
        if (next == values.size()) break;
        sweep_.replace({node, static_cast<int>(result)}, values[next++]);
      }
    }
    if (next != values.size() || next < root.types.size())
      fail(ErrorCode::kRuntime, "the rule {} returns {} values", candidate.rule->name, values.size());
  }

  void refuse(const Candidate& candidate, const std::string& reason) {
    const std::string& label = network_.nodes()[static_cast<size_t>(candidate.found.nodes[0])].label;
    std::string text = format("{}{}{}: {}", candidate.rule->name, label.empty() ? "" : " at ", label, reason);
    if (std::find(log_.refusals.begin(), log_.refusals.end(), text) == log_.refusals.end())
      log_.refusals.push_back(std::move(text));
  }

  const Network& network_;
  std::map<Value, int> uses_;
  Sweep sweep_;
  RewriteLog& log_;
  std::vector<bool> taken_;
  std::multimap<int, Candidate> candidates_;  // by position; equal ones in the order of insertion
  bool fired_ = false;
};

}  // namespace

Values Match::inputs(Values first, std::string_view rest_name) const {
  Values rest_values = rest(rest_name);
  first.insert(first.end(), rest_values.begin(), rest_values.end());
  return first;
}

const Node& Match::node(std::string_view name) const {
  for (size_t i = 0; i < pattern_.nodes().size(); ++i)
    if (pattern_.nodes()[i].name == name) return sweep_.old().nodes()[static_cast<size_t>(found_.nodes[i])];
  return sweep_.old().node(old(name));
}

const Node& Match::rest_node(std::string_view rest_name, size_t index) const {
  return sweep_.old().node(found_.rests.at(std::string(rest_name)).at(index));
}

Network apply_rules(Network network, std::span<const Rule> rules, RewriteLog& log) {
  std::vector<Pattern> patterns;
  for (const Rule& rule : rules) patterns.emplace_back(rule.pattern);
  for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
    RuleSweep rule_sweep(network, rules, patterns, log);
    if (!rule_sweep.run()) return network;
    network = rule_sweep.finish();
  }
  fail(ErrorCode::kRuntime, "the rules {} … do not come to an end", rules[0].name);
}

}  // namespace ingot
