#include "ir/evaluate.h"

#include <utility>

namespace ingot {

namespace {

// Sets the symbols of `declared` to what the sizes of `found` say.
void bind_dims(const std::string& name, const TensorType& declared, const TensorType& found, DimValues& dims) {
  auto misfit = [&] {
    fail(ErrorCode::kRuntime, "\"{}\" is {} where {} is needed", name, print(found), print(declared));
  };
  if (found.rank() != declared.rank() || is_float(found.dtype) != is_float(declared.dtype)) misfit();
  for (size_t i = 0; i < declared.shape.size(); ++i) {
    const Dim& dim = declared.shape[i];
    int64_t size = found.shape[i].constant();
    if (!dim.is_constant() && !dims.contains(dim.symbol)) {
      if (dim.scale == 0 || (size - dim.offset) % dim.scale != 0) misfit();
      dims[dim.symbol] = (size - dim.offset) / dim.scale;
    }
    if (dim.value(dims) != size) misfit();
  }
}

class Interpreter {
 public:
  Interpreter(const Network& network, const NamedTensors& inputs, const LeafTensors& weights,
              const EvaluateOptions& options)
      : network_(network), inputs_(inputs), weights_(weights), options_(options), dims_(options.dims) {}

  Evaluation run() {
    for (const Node& node : network_.nodes()) {
      if (node.kind == NodeKind::kOp || node.kind == NodeKind::kWeight) continue;
      auto given = inputs_.find(node.name);
      if (given != inputs_.end()) bind_dims(node.name, node.types[0], given->second.type, dims_);
    }
    left_ = network_.uses();
    for (size_t i = 0; i < network_.nodes().size(); ++i) evaluate_node(static_cast<int>(i));
    for (const auto& [name, value] : network_.outputs()) result_.outputs[name] = take(value);
    return std::move(result_);
  }

 private:
  HostTensor stored(HostTensor tensor) const {
    if (!options_.round) return widened(tensor);
    round_values(tensor);
    return tensor;
  }

  HostTensor leaf(const Node& node) const {
    auto given = inputs_.find(node.name);
    if (given == inputs_.end()) {
      if (node.kind == NodeKind::kInput) fail(ErrorCode::kRuntime, "the input \"{}\" is missing", node.name);
      return stored(HostTensor(node.types[0].at(dims_)));
    }
    HostTensor tensor = given->second;
    tensor.type = node.types[0].at(dims_);
    return stored(std::move(tensor));
  }

  HostTensor weight(const Node& node) const {
    Scope scope("the weight " + node.name);
    HostTensor tensor = ingot::evaluate(node.recipe, weights_, options_.round ? Rounding::kAsStored : Rounding::kNone);
    bool fits = tensor.type.shape == node.types[0].shape && (!options_.round || tensor.type == node.types[0]);
    if (!fits)
      fail(ErrorCode::kRuntime, "its recipe makes {} where {} is needed", print(tensor.type), print(node.types[0]));
    return tensor;
  }

  // The value for one of its readers.
  HostTensor take(Value value) {
    const Node& node = network_.node(value);
    if (node.kind == NodeKind::kWeight) return weight(node);
    auto found = values_.find(value);
    if (--left_[value] > 0) return found->second;
    HostTensor tensor = std::move(found->second);
    values_.erase(found);
    return tensor;
  }

  void evaluate_node(int index) {
    const Node& node = network_.nodes()[static_cast<size_t>(index)];
    if (node.kind == NodeKind::kWeight) return;
    HostTensors results;
    if (node.kind == NodeKind::kOp) {
      HostTensors inputs;
      for (Value value : node.inputs) inputs.push_back(take(value));
      Scope scope(node.label.empty() ? std::string(node.op.name()) : node.label);
      results = node.op.evaluate(inputs, options_.round);
    } else {
      results.push_back(leaf(node));
    }
    for (size_t i = 0; i < results.size(); ++i) keep({index, static_cast<int>(i)}, node, std::move(results[i]));
  }

  void keep(Value value, const Node& node, HostTensor tensor) {
    if (node.kind == NodeKind::kOp && !options_.round) tensor = widened(tensor);
    if (options_.record)
      for (const std::string& origin : node.origins[static_cast<size_t>(value.result)])
        result_.recorded[origin] = tensor;
    auto left = left_.find(value);
    if (left != left_.end()) values_[value] = std::move(tensor);
  }

  const Network& network_;
  const NamedTensors& inputs_;
  const LeafTensors& weights_;
  const EvaluateOptions& options_;
  DimValues dims_;
  std::map<Value, int> left_;  // readers that have not come yet
  std::map<Value, HostTensor> values_;
  Evaluation result_;
};

}  // namespace

Evaluation evaluate(const Network& network, const NamedTensors& inputs, const LeafTensors& weights,
                    const EvaluateOptions& options) {
  return Interpreter(network, inputs, weights, options).run();
}

}  // namespace ingot
