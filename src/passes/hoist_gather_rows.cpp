// gather_rows(f(x, …), rows) becomes f(gather_rows(x, rows), …) where every row of f stands alone: what only the
// gathered rows need is computed for those alone. In a language model that is all of the last layer behind its
// attention.
//
// An op moves when every reader of its results is such a gather or moves as well. That is decided for all ops at once:
// a residual sum has two readers, and one of them is a chain that ends in the same gather.
#include <algorithm>

#include "ops/indexing.h"
#include "passes/passes.h"

namespace ingot {

namespace {

class Hoist {
 public:
  // Of the gathers by `rows`.
  Hoist(const Network& network, Value rows) : network_(network), rows_(rows), stays_(network.nodes().size()) {
    for (size_t i = 0; i < network.nodes().size(); ++i) {
      const Node& node = network.nodes()[i];
      if (node.kind != NodeKind::kOp) continue;
      if (is_gather(node) && label_.empty()) label_ = node.label;
      for (size_t input = 0; input < node.inputs.size(); ++input)
        readers_[node.inputs[input]].push_back({static_cast<int>(i), input});
    }
    for (const auto& [name, value] : network.outputs()) readers_[value].push_back({-1, 0});
    for (bool settled = false; !settled;) {
      settled = true;
      for (int i = static_cast<int>(stays_.size()); i-- > 0;) {
        if (!moves(i)) continue;
        stays_[static_cast<size_t>(i)] = obstacle(i);
        settled = settled && moves(i);
      }
    }
  }

  int count() const {
    int moving = 0;
    for (int i = 0; i < static_cast<int>(stays_.size()); ++i) moving += moves(i);
    return moving;
  }

  // Why the ops that gathers by `rows` read stay where they are.
  void add_refusals(std::vector<std::string>& refusals) const {
    for (const Node& node : network_.nodes()) {
      if (!is_gather(node)) continue;
      const Node& maker = network_.node(node.inputs[0]);
      const std::string& reason = stays_[static_cast<size_t>(node.inputs[0].node)];
      if (maker.kind == NodeKind::kOp && !reason.empty())
        refusals.push_back(format("hoist_gather_rows at {}: {}", maker.label, reason));
    }
  }

  Network build() const {
    Sweep sweep(network_);
    std::map<Value, Value> gathered;  // of the old network, to their rows in the new one
    auto rows_of = [&](Value value) {
      auto [place, added] = gathered.try_emplace(value);
      if (added) place->second = sweep.out().add_one(GatherRows{}, {sweep(value), sweep(rows_)}, label_);
      return place->second;
    };
    for (int i = 0; i < static_cast<int>(stays_.size()); ++i) {
      const Node& node = network_.nodes()[static_cast<size_t>(i)];
      if (is_gather(node)) {
        sweep.replace({i, 0}, rows_of(node.inputs[0]));
      } else if (moves(i)) {
        std::vector<bool> by_row = row_inputs(node);
        Values inputs;
        for (size_t input = 0; input < node.inputs.size(); ++input)
          inputs.push_back(by_row[input] ? rows_of(node.inputs[input]) : sweep(node.inputs[input]));
        Values results = sweep.out().add(node.op, std::move(inputs), node.label);
        for (size_t result = 0; result < results.size(); ++result)
          gathered[{i, static_cast<int>(result)}] = results[result];
      } else {
        sweep.copy(i);
      }
    }
    return sweep.finish();
  }

 private:
  struct Reader {
    int node;  // -1: an output of the network
    size_t input;
  };

  bool is_gather(const Node& node) const {
    return node.kind == NodeKind::kOp && node.op.is<GatherRows>() && node.inputs[1] == rows_;
  }
  bool moves(int node) const {
    return network_.nodes()[static_cast<size_t>(node)].kind == NodeKind::kOp &&
           stays_[static_cast<size_t>(node)].empty();
  }
  std::vector<bool> row_inputs(const Node& node) const {
    Types types;
    for (Value input : node.inputs) types.push_back(network_.type(input));
    return node.op.row_inputs(types);
  }

  // Why node `index` cannot move, given those that do not; empty: it can.
  std::string obstacle(int index) const {
    const Node& node = network_.nodes()[static_cast<size_t>(index)];
    std::vector<bool> by_row = row_inputs(node);
    if (by_row.empty()) return format("{} mixes rows", node.op.name());
    if (network_.node(rows_).kind == NodeKind::kOp && index < rows_.node) return "the rows are known only later";
    bool read = false;
    for (size_t result = 0; result < node.types.size(); ++result) {
      auto readers = readers_.find({index, static_cast<int>(result)});
      if (readers == readers_.end()) continue;
      read = true;
      for (const Reader& reader : readers->second)
        if (!needs_rows_only(reader)) return "others read all its rows";
    }
    if (!read) return "nobody reads it";
    if (more_rows(node)) return "more rows are gathered than there are";
    for (size_t input = 0; input < node.inputs.size(); ++input) {
      const TensorType& type = network_.type(node.inputs[input]);
      if (by_row[input] && !moves(node.inputs[input].node) && !(is_float(type.dtype) && type.rank() == 2))
        return format("its input {} is no float matrix", print(type));
    }
    return "";
  }

  bool needs_rows_only(const Reader& reader) const {
    if (reader.node < 0) return false;
    const Node& node = network_.nodes()[static_cast<size_t>(reader.node)];
    if (is_gather(node) && reader.input == 0) return true;
    return moves(reader.node) && row_inputs(node)[reader.input];
  }

  // Whether the gather repeats rows, as far as the ranges of the dimensions tell.
  bool more_rows(const Node& node) const {
    auto most = [&](const Dim& dim) -> int64_t {
      DimValues values;
      for (const DimRange& range : network_.dims) values[range.symbol] = range.max;
      return dim.is_constant() || values.contains(dim.symbol) ? dim.value(values) : -1;
    };
    int64_t wanted = most(network_.type(rows_).shape[0]), all = most(node.types[0].shape[0]);
    return wanted > all && all >= 0;
  }

  const Network& network_;
  Value rows_;
  std::string label_;               // of the first gather
  std::vector<std::string> stays_;  // by node, why; empty for those that move
  std::map<Value, std::vector<Reader>> readers_;
};

// By what rows gathers of the network pick, each once.
Values gathered_by(const Network& network) {
  Values rows;
  for (const Node& node : network.nodes())
    if (node.kind == NodeKind::kOp && node.op.is<GatherRows>() &&
        std::find(rows.begin(), rows.end(), node.inputs[1]) == rows.end())
      rows.push_back(node.inputs[1]);
  return rows;
}

}  // namespace

Network hoist_gather_rows(Network network, const PassContext& context) {
  for (bool settled = false; !settled;) {
    settled = true;
    std::vector<std::string> refusals;
    for (Value rows : gathered_by(network)) {
      Hoist hoist(network, rows);
      hoist.add_refusals(refusals);
      if (hoist.count() == 0) continue;
      context.log.fired += hoist.count();
      network = hoist.build();
      settled = false;
      break;
    }
    if (settled) context.log.refusals = std::move(refusals);
  }
  return network;
}

}  // namespace ingot
