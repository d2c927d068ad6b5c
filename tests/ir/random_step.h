// Pseudo-random but valid inputs and weights for any network in tests.
#pragma once

#include <algorithm>
#include <random>

#include "base/hash.h"
#include "ir/evaluate.h"
#include "ops/experts.h"
#include "ops/indexing.h"
#include "ops/sample.h"

namespace ingot::testing {

// A float tensor whose values follow from `name` and `seed` alone.
inline HostTensor random_tensor(const TensorType& type, std::string_view name, uint64_t seed) {
  std::mt19937_64 random(hash64(name) ^ (seed * 0x9e3779b97f4a7c15));
  std::uniform_real_distribution<double> uniform(-1, 1);
  HostTensor tensor(type);
  for (double& value : tensor.values) value = uniform(random);
  round_values(tensor);
  return tensor;
}

// Two sequences in one step: a chunk of three tokens after earlier ones, and a prompt of two. Inputs are told apart by
// the names that models/model.h fixes; other i32 inputs are indices below what their readers allow.
class RandomStep {
 public:
  explicit RandomStep(const Network& network, uint64_t seed = 1) : network_(network), seed_(seed) {
    for (const Node& node : network.nodes()) {
      if (node.kind == NodeKind::kInput) inputs_[node.name] = input(node);
      if (node.kind == NodeKind::kState) inputs_[node.name] = random_tensor(sized(node.types[0]), node.name, seed);
      if (node.kind == NodeKind::kWeight) note_leaves(node.recipe, node.types[0]);
    }
  }

  const NamedTensors& inputs() const { return inputs_; }

  // The checkpoint tensors: of the network's weights, as far as their types follow from the recipes.
  LeafTensors leaves() const {
    return [leaves = leaves_, seed = seed_](std::string_view name) {
      auto found = leaves.find(name);
      if (found == leaves.end()) fail(ErrorCode::kRuntime, "the type of the leaf \"{}\" is not known", name);
      return random_tensor(found->second, name, seed);
    };
  }

 private:
  static constexpr int64_t kTokens[] = {3, 2}, kEarlier[] = {5, 0};

  int64_t page_size(std::string_view group) const {
    for (const CacheGroup& each : network_.groups)
      if (each.name == group || network_.groups.size() == 1) return each.page_size;
    return 4;
  }
  int64_t pages(std::string_view group, int sequence) const {
    int64_t size = page_size(group);
    return (kTokens[sequence] + kEarlier[sequence] + size - 1) / size;
  }
  static std::string_view group_of(std::string_view name, std::string_view prefix) {
    name.remove_prefix(std::min(name.size(), prefix.size() + 1));
    return name;
  }

  int64_t size(const std::string& symbol) const {
    if (symbol == "tokens") return 5;
    if (symbol.starts_with("pool_pages")) return total_pages(group_of(symbol, "pool_pages")) + 2;
    if (symbol.starts_with("pages")) return total_pages(group_of(symbol, "pages"));
    return 2;  // sequences, outputs, …
  }
  int64_t total_pages(std::string_view group) const { return pages(group, 0) + pages(group, 1); }

  TensorType sized(const TensorType& type) const {
    DimValues dims;
    for (const Dim& dim : type.shape)
      if (!dim.is_constant()) dims[dim.symbol] = size(dim.symbol);
    return type.at(dims);
  }

  HostTensor input(const Node& node) const {
    TensorType type = sized(node.types[0]);
    if (is_float(type.dtype)) return random_tensor(type, node.name, seed_);
    std::string name = node.name.substr(0, node.name.find('.'));
    std::string_view group = group_of(node.name, name);
    HostTensor tensor(type);
    std::vector<double> values;
    for (int s = 0; s < 2; ++s) {
      int64_t first_page = s == 0 ? 0 : pages(group, 0), size = page_size(group);
      if (name == "query_starts") values.push_back(s == 0 ? 0 : kTokens[0]);
      if (name == "page_starts") values.push_back(static_cast<double>(first_page));
      if (name == "context_lengths") values.push_back(static_cast<double>(kTokens[s] + kEarlier[s]));
      if (name == "context_starts") values.push_back(0);
      for (int64_t p = kEarlier[s]; p < kEarlier[s] + kTokens[s]; ++p) {
        if (name == "positions") values.push_back(static_cast<double>(p));
        if (name == "slots")
          values.push_back(static_cast<double>(page(group, first_page + p / size) * size + p % size));
      }
    }
    if (name == "query_starts") values.push_back(5);
    if (name == "page_starts") values.push_back(static_cast<double>(total_pages(group)));
    if (name == "page_list")
      for (int64_t i = 0; i < total_pages(group); ++i) values.push_back(static_cast<double>(page(group, i)));
    if (values.empty()) return indices(std::move(tensor), node);
    values.resize(tensor.values.size());
    tensor.values = std::move(values);
    return tensor;
  }

  // Entry `index` of the page list: falling, so that a mistake in the order shows.
  int64_t page(std::string_view group, int64_t index) const { return total_pages(group) - index; }

  HostTensor indices(HostTensor tensor, const Node& node) const {
    int64_t limit = 100;
    Value value = network_.find(node.name);
    for (const Node& reader : network_.nodes())
      for (size_t i = 0; i < reader.inputs.size(); ++i) {
        if (reader.inputs[i] != value) continue;
        size_t indexed = reader.op.is<Embedding>()    ? 1
                         : reader.op.is<GatherRows>() ? 0
                         : reader.op.is<ExpertMlp>()  ? 3
                         : reader.op.is<Sample>()     ? 4
                                                      : i;
        if (indexed != i) limit = std::min(limit, sized(network_.type(reader.inputs[indexed])).shape[0].constant());
      }
    std::mt19937_64 random(hash64(node.name) ^ seed_);
    for (double& index : tensor.values) index = static_cast<double>(random() % static_cast<uint64_t>(limit));
    return tensor;
  }

  void note_leaves(const Recipe& recipe, const TensorType& type) {
    const RecipeNode& node = recipe.node();
    if (auto* tensor = std::get_if<recipe::Tensor>(&node.kind)) {
      leaves_.emplace(tensor->name, type);
    } else if (std::holds_alternative<recipe::Cast>(node.kind) || std::holds_alternative<recipe::Add>(node.kind) ||
               std::holds_alternative<recipe::Scale>(node.kind)) {
      note_leaves(node.inputs[0], {DType::kF32, type.shape, ""});
    } else if (std::holds_alternative<recipe::Transpose>(node.kind)) {
      note_leaves(node.inputs[0], {type.dtype, {type.shape[1], type.shape[0]}, ""});
    } else if (auto* slice = std::get_if<recipe::Slice>(&node.kind); slice && slice->axis == 0) {
      // As long as the farthest slice reaches.
      TensorType whole = type;
      whole.shape[0] = Dim(slice->end);
      if (auto* sliced = std::get_if<recipe::Tensor>(&node.inputs[0].node().kind)) {
        auto [place, added] = leaves_.emplace(sliced->name, whole);
        if (place->second.shape[0].constant() < slice->end) place->second = whole;
      }
    }
  }

  const Network& network_;
  uint64_t seed_;
  NamedTensors inputs_;
  std::map<std::string, TensorType, std::less<>> leaves_;
};

// Where the outputs of two networks over the same inputs and leaves differ by more than `tolerance` times the greatest
// value, evaluated without rounding; empty: nowhere.
inline std::string difference(const Network& a, const Network& b, double tolerance = 1e-6, uint64_t seed = 1) {
  RandomStep step(a, seed);
  EvaluateOptions options{.round = false, .record = false, .dims = {}};
  Evaluation first = evaluate(a, step.inputs(), step.leaves(), options);
  Evaluation second = evaluate(b, step.inputs(), step.leaves(), options);
  if (first.outputs.size() != second.outputs.size()) return "different outputs";
  for (const auto& [name, x] : first.outputs) {
    auto found = second.outputs.find(name);
    if (found == second.outputs.end()) return "the output " + name + " is missing";
    const HostTensor& y = found->second;
    if (x.type.shape != y.type.shape) return "the output " + name + " has another shape";
    double greatest = 1, error = 0;
    for (double value : x.values) greatest = std::max(greatest, std::abs(value));
    for (size_t i = 0; i < x.values.size(); ++i) {
      if (!std::isfinite(x.values[i])) return "the output " + name + " is not finite";
      // Negated so that NaN counts as a difference.
      if (!(std::abs(x.values[i] - y.values[i]) <= error)) error = std::abs(x.values[i] - y.values[i]);
    }
    if (!(error <= tolerance * greatest)) return format("the output {} differs by {}", name, error);
  }
  return "";
}

}  // namespace ingot::testing
