#include "tune/check_cut.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "ops/attention.h"
#include "ops/matmul.h"
#include "ops/sample.h"

namespace ingot {

namespace {

using Indices = std::vector<int64_t>;

constexpr int64_t kElements = 64;                    // wanted in a sample
constexpr int64_t kMostElements = int64_t{1} << 24;  // that a sample may read

// `count` of [0, size): both ends and evenly spaced ones, which a fixed step would let fall on tile borders only.
Indices spread(int64_t size, int64_t count) {
  Indices picked;
  count = std::min(size, count);
  for (int64_t i = 0; i < count; ++i) {
    int64_t low = size * i / count, high = size * (i + 1) / count;
    picked.push_back(i == 0 ? 0 : i == count - 1 ? size - 1 : low + (i * 7919) % (high - low));
  }
  return picked;
}

int64_t row_elements(const TensorType& type) {
  int64_t count = 1;
  for (size_t axis = 1; axis < type.shape.size(); ++axis) count *= type.shape[axis].constant();
  return count;
}

TensorType with_size(TensorType type, int64_t rows) {
  type.shape[0] = Dim(rows);
  return type;
}

// The slices of `view` along its first axis that `rows` names.
HostTensor gathered(const TensorView& view, const Indices& rows) {
  int64_t width = row_elements(view.type);
  HostTensor result(with_size(view.type, static_cast<int64_t>(rows.size())));
  double* out = result.values.data();
  for (int64_t row : rows)
    for (int64_t i = 0; i < width; ++i) *out++ = view[row * width + i];
  return result;
}

Indices gathered_indices(const TensorType& type, const Indices& rows) {
  int64_t width = row_elements(type);
  Indices indices;
  for (int64_t row : rows)
    for (int64_t i = 0; i < width; ++i) indices.push_back(row * width + i);
  return indices;
}

HostTensor index_vector(const Indices& values) {
  TensorType type{DType::kI32, {static_cast<int64_t>(values.size())}, ""};
  return HostTensor(type, std::vector<double>(values.begin(), values.end()));
}

// Fills in the problem of a cut from its inputs.
Cut finished(const Problem& problem, Cut cut) {
  cut.problem.op = problem.op;
  for (const HostTensor& input : cut.inputs) cut.problem.inputs.push_back(input.type);
  cut.problem.outputs = problem.op.infer(cut.problem.inputs);
  return cut;
}

// A grid of rows and output features.
Cut cut_matmul(const Problem& problem, const Inputs& inputs) {
  int64_t n = problem.outputs[0].shape[1].constant();
  Indices rows = spread(problem.outputs[0].shape[0].constant(), 8);
  Indices columns = spread(n, kElements / std::max<int64_t>(1, static_cast<int64_t>(rows.size())));
  Indices features = columns;  // the rows of w behind them
  if (problem.op.as<Matmul>()->gated)
    for (int64_t column : columns) features.push_back(n + column);
  Cut cut;
  cut.inputs = {gathered(inputs.view(0), rows), gathered(inputs.view(1), features)};
  Indices indices;
  for (int64_t row : rows)
    for (int64_t column : columns) indices.push_back(row * n + column);
  for (size_t i = 2; i < inputs.size(); ++i) {
    TensorView view = inputs.view(i);
    if (view.type.rank() == 1) {
      cut.inputs.push_back(gathered(view, features));
      continue;
    }
    Shape shape = {static_cast<int64_t>(rows.size()), static_cast<int64_t>(columns.size())};
    HostTensor residual(TensorType{view.type.dtype, shape, ""});
    for (size_t at = 0; at < indices.size(); ++at) residual.values[at] = view[indices[at]];
    cut.inputs.push_back(std::move(residual));
  }
  cut.indices = {std::move(indices)};
  return finished(problem, std::move(cut));
}

// Some of the picked rows of a table, which shrinks to those rows.
Cut cut_picked(const Problem& problem, const Inputs& inputs, size_t ids, size_t table) {
  Indices places = spread(problem.inputs[ids].elements(), 8), rows, renumbered(places.size());
  for (int64_t place : places) rows.push_back(static_cast<int64_t>(inputs.view(ids)[place]));
  std::iota(renumbered.begin(), renumbered.end(), 0);
  Cut cut;
  cut.inputs.resize(2);
  cut.inputs[ids] = index_vector(renumbered);
  cut.inputs[table] = gathered(inputs.view(table), rows);
  cut.indices = {gathered_indices(problem.outputs[0], places)};
  return finished(problem, std::move(cut));
}

Cut cut_embedding(const Problem& problem, const Inputs& inputs) { return cut_picked(problem, inputs, 0, 1); }
Cut cut_gather_rows(const Problem& problem, const Inputs& inputs) { return cut_picked(problem, inputs, 1, 0); }

// A few tokens as sequences of their own, with the query heads of one kv head.
Cut cut_attention(const Problem& problem, const Inputs& inputs) {
  Attention op = *problem.op.as<Attention>();
  TensorView q = inputs.view(0), k = inputs.view(1), v = inputs.view(2);
  int64_t kv_heads = k.type.shape[1].constant(), page_size = k.type.shape[2].constant(), group = op.heads / kv_heads;
  int64_t kv_head = kv_heads - 1, sequences = inputs.view(4).type.elements(), sequence = 0;
  int64_t v_width = group * v.type.shape[3].constant();
  Indices tokens, pages, page_starts = {0}, contexts, context_starts, query_starts = {0};
  auto integer = [&](size_t input, int64_t i) { return static_cast<int64_t>(inputs.view(input)[i]); };
  for (int64_t token : spread(integer(3, sequences), 3)) {
    while (integer(3, sequence + 1) <= token) ++sequence;
    int64_t position = integer(4, sequence) - (integer(3, sequence + 1) - token), start = integer(7, sequence);
    tokens.push_back(token);
    query_starts.push_back(static_cast<int64_t>(tokens.size()));
    contexts.push_back(position + 1);
    context_starts.push_back(start);
    for (int64_t page = 0; page <= (position - start) / page_size; ++page)
      pages.push_back(integer(6, integer(5, sequence) + page) * kv_heads + kv_head);
    page_starts.push_back(static_cast<int64_t>(pages.size()));
  }
  auto one_head = [&](TensorView state) {
    state.type.shape = {state.type.shape[0].constant() * kv_heads, 1, page_size, state.type.shape[3]};
    return gathered(state, pages);
  };
  Indices renumbered(pages.size()), groups;
  std::iota(renumbered.begin(), renumbered.end(), 0);
  for (int64_t token : tokens) groups.push_back(token * kv_heads + kv_head);
  q.type.shape = {q.type.shape[0].constant() * kv_heads, Dim(group * k.type.shape[3].constant())};
  Cut cut;
  cut.inputs = {gathered(q, groups),
                one_head(k),
                one_head(v),
                index_vector(query_starts),
                index_vector(contexts),
                index_vector(page_starts),
                index_vector(renumbered),
                index_vector(context_starts)};
  TensorType rows{DType::kF32, {problem.outputs[0].shape[0].constant() * kv_heads, v_width}, ""};
  cut.indices = {gathered_indices(rows, groups)};
  op.heads = group;
  Problem part = problem;
  part.op = op;
  return finished(part, std::move(cut));
}

struct CacheInputs {
  size_t slots;
  Indices states, rows;  // inputs that are states; inputs with a row per token
};

// A few pages, with every token that is written there.
Cut cut_cache_write(const Problem& problem, const Inputs& inputs, const CacheInputs& roles) {
  TensorView slots = inputs.view(roles.slots);
  int64_t page_size = problem.inputs[static_cast<size_t>(roles.states[0])].shape[2].constant();
  Indices pages = {0}, tokens, new_slots;
  for (int64_t token : spread(slots.type.elements(), 4))
    if (slots[token] >= 0) pages.push_back(static_cast<int64_t>(slots[token]) / page_size);
  std::sort(pages.begin(), pages.end());
  pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
  for (int64_t token = 0; token < slots.type.elements(); ++token) {
    int64_t slot = static_cast<int64_t>(slots[token]);
    auto page = std::lower_bound(pages.begin(), pages.end(), slot / page_size);
    if (slot < 0 || page == pages.end() || *page != slot / page_size) continue;
    tokens.push_back(token);
    new_slots.push_back((page - pages.begin()) * page_size + slot % page_size);
  }
  Cut cut;
  for (size_t i = 0; i < inputs.size(); ++i) cut.inputs.emplace_back();
  auto listed = [](const Indices& list, size_t i) {
    return std::count(list.begin(), list.end(), static_cast<int64_t>(i));
  };
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (i == roles.slots)
      cut.inputs[i] = index_vector(new_slots);
    else if (listed(roles.states, i))
      cut.inputs[i] = gathered(inputs.view(i), pages);
    else if (listed(roles.rows, i))
      cut.inputs[i] = gathered(inputs.view(i), tokens);
    else
      cut.inputs[i] = HostTensor(inputs.view(i));
  }
  for (size_t o = 0; o < problem.outputs.size(); ++o) {
    bool state = problem.op.aliased_input(static_cast<int>(o)) >= 0;
    cut.indices.push_back(gathered_indices(problem.outputs[o], state ? pages : tokens));
  }
  return finished(problem, std::move(cut));
}

Cut cut_kv_write(const Problem& problem, const Inputs& inputs) {
  return cut_cache_write(problem, inputs, {2, {0}, {1}});
}
Cut cut_rope_kv_write(const Problem& problem, const Inputs& inputs) {
  return cut_cache_write(problem, inputs, {4, {2, 3}, {0, 1}});
}

// One token, with the experts it uses.
Cut cut_expert_mlp(const Problem& problem, const Inputs& inputs) {
  Cut cut;
  int64_t top_k = problem.inputs[1].shape[1].constant();
  int64_t read = top_k * (row_elements(problem.inputs[3]) + row_elements(problem.inputs[4]));
  if (read > kMostElements) {
    cut.unchecked = format("one token would read {} weights; nothing was checked", read);
    return cut;
  }
  Indices tokens = spread(problem.inputs[0].shape[0].constant(), 1), experts;
  cut.inputs = {gathered(inputs.view(0), tokens), gathered(inputs.view(1), tokens), gathered(inputs.view(2), tokens)};
  for (double& id : cut.inputs[1].values) {
    experts.push_back(static_cast<int64_t>(id));
    id = static_cast<double>(experts.size() - 1);
  }
  cut.inputs.push_back(gathered(inputs.view(3), experts));
  cut.inputs.push_back(gathered(inputs.view(4), experts));
  cut.indices = {gathered_indices(problem.outputs[0], tokens)};
  return finished(problem, std::move(cut));
}

// A few rows and their seats.
Cut cut_sample(const Problem& problem, const Inputs& inputs) {
  Indices rows = spread(problem.outputs[0].shape[0].constant(), 4), seats;
  Cut cut;
  for (size_t i : {0, 1, 2}) cut.inputs.push_back(gathered(inputs.view(i), rows));
  for (size_t row = 0; row < rows.size(); ++row) {
    double& seat = cut.inputs[2].values[row * sample::kChoices + sample::kSeat];
    if (seat < 0) continue;
    seats.push_back(static_cast<int64_t>(seat));
    seat = static_cast<double>(seats.size() - 1);
  }
  cut.inputs.emplace_back(inputs.view(3));
  cut.inputs.push_back(gathered(inputs.view(4), seats));
  cut.indices = {rows, seats, gathered_indices(problem.outputs[2], rows), gathered_indices(problem.outputs[3], rows)};
  return finished(problem, std::move(cut));
}

// What the op itself does not say. Most ops need no rule.
struct CutRule {
  std::string_view op;
  Cut (*cut)(const Problem&, const Inputs&);  // rows alone do not cut it small, or it has none
  std::array<bool, 5> tokens = {};            // for ops that mix rows: inputs with one row per token
};
constexpr CutRule kRules[] = {
    {"matmul", cut_matmul},
    {"embedding", cut_embedding},
    {"gather_rows", cut_gather_rows},
    {"expert_mlp", cut_expert_mlp},
    {"attention", cut_attention, {true}},
    {"kv_write", cut_kv_write, {false, true, true}},
    {"rope_kv_write", cut_rope_kv_write, {true, true, false, false, true}},
    {"sample", cut_sample, {true, true, true}},
};

const CutRule* find_rule(const Problem& problem) {
  for (const CutRule& rule : kRules)
    if (rule.op == problem.op.name()) return &rule;
  return nullptr;
}

// By input, whether it has one row per token, or per row of the outputs; empty when nobody knows.
std::vector<bool> inputs_with_rows(const Problem& problem) {
  std::vector<bool> rows = problem.op.row_inputs(problem.inputs);
  const CutRule* rule = find_rule(problem);
  if (rows.empty() && rule) {
    rows.assign(rule->tokens.begin(), rule->tokens.end());
    rows.resize(problem.inputs.size());
  }
  return rows;
}

Cut cut_rows(const std::vector<bool>& has_rows, const Problem& problem, const Inputs& inputs) {
  Indices rows = spread(problem.outputs[0].shape[0].constant(),
                        std::max<int64_t>(4, kElements / std::max<int64_t>(1, row_elements(problem.outputs[0]))));
  Cut cut;
  for (size_t i = 0; i < inputs.size(); ++i)
    cut.inputs.push_back(has_rows[i] ? gathered(inputs.view(i), rows) : HostTensor(inputs.view(i)));
  for (const TensorType& output : problem.outputs) cut.indices.push_back(gathered_indices(output, rows));
  return finished(problem, std::move(cut));
}

}  // namespace

Cut whole(const Problem& problem, const Inputs& inputs) {
  Cut cut;
  for (const TensorView& view : inputs.views()) cut.inputs.emplace_back(view);
  for (const TensorType& output : problem.outputs) {
    cut.indices.emplace_back(static_cast<size_t>(output.elements()));
    std::iota(cut.indices.back().begin(), cut.indices.back().end(), 0);
  }
  return finished(problem, std::move(cut));
}

Cut sampled(const Problem& problem, const Inputs& inputs) {
  for (const TensorType& output : problem.outputs)
    if (output.rank() == 0 || output.elements() == 0) return whole(problem, inputs);
  if (const CutRule* rule = find_rule(problem)) return rule->cut(problem, inputs);
  std::vector<bool> has_rows = inputs_with_rows(problem);
  if (has_rows.empty()) {
    Cut cut;
    cut.unchecked = format("{} has no rule for sampling; nothing was checked", problem.op.name());
    return cut;
  }
  return cut_rows(has_rows, problem, inputs);
}

std::optional<Problem> with_rows(const Problem& problem, int64_t rows) {
  std::vector<bool> has_rows = inputs_with_rows(problem);
  if (has_rows.empty() || problem.outputs[0].rank() == 0) return std::nullopt;
  Problem other;
  other.op = problem.op;
  for (size_t i = 0; i < problem.inputs.size(); ++i)
    other.inputs.push_back(has_rows[i] ? with_size(problem.inputs[i], rows) : problem.inputs[i]);
  other.outputs = other.op.infer(other.inputs);
  return other;
}

}  // namespace ingot
