// Appends the parts of a decoder to a network: the inputs of a step, weights from the checkpoint, the ops of one layer
// after the other. A name such as "layers.0.mlp.up_proj" is a module path of the transformers library: it labels the
// op, and with ".weight" or ".bias" it names the engine's weight and, behind the model's prefix, the checkpoint tensor.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/blocks/rope.h"
#include "models/model.h"

namespace ingot {

// How a weight and a bias are made, where it is not simply a tensor each.
struct LinearRecipes {
  Recipe weight;
  Recipe bias;  // empty: none
};

struct AttentionSettings {
  int64_t heads = 1, kv_heads = 1, head_size = 1;
  float scale = 1;
  float soft_cap = 0;
  int64_t window = 0;  // 0: everything before
};
// Scores divided by the square root of the head size, no cap, no window.
AttentionSettings attention_settings(const DecoderSizes& sizes);

class ModelWriter {
 public:
  // `prefix` stands before the names of checkpoint tensors ("model.").
  ModelWriter(const Checkpoint& checkpoint, const ModelOptions& options, std::string prefix);

  // --- weights ---

  // The checkpoint tensor prefix + name, which must exist with this shape.
  Recipe tensor(std::string_view name, const std::vector<int64_t>& shape) const;
  // The same for a full name.
  Recipe tensor_named(std::string_view full_name, const std::vector<int64_t>& shape) const;
  bool has_tensor(std::string_view name) const { return checkpoint_.has(prefix_ + std::string(name)); }
  // A weight for products and look-ups, in the engine's dtype; a vector that adds or multiplies, f32.
  Value matrix(const std::string& name, Recipe recipe) { return weight(name, std::move(recipe), options_.dtype); }
  Value matrix(const std::string& name, const std::vector<int64_t>& shape) { return matrix(name, tensor(name, shape)); }
  Value vector(const std::string& name, Recipe recipe) { return weight(name, std::move(recipe), DType::kF32); }
  // The head's matrix: the tensor `full_name`, or the embedding's `table` itself when the model ties them. A checkpoint
  // that ties them and nevertheless holds another head is taken at its tensors' word.
  Value head(Value table, std::string_view full_name, bool tied);

  // --- ops ---

  Value embed(std::string_view input, Value table, const std::string& name);
  Value linear(Value x, const std::string& name, int64_t outputs, bool bias = false);
  Value linear(Value x, const std::string& name, LinearRecipes recipes);
  // Over x's width, or over every head when `width` is given.
  Value rms_norm(Value x, const std::string& name, float epsilon, int64_t width = 0);
  // The form whose stored weight is the distance from one.
  Value rms_norm_plus_one(Value x, const std::string& name, float epsilon, int64_t width = 0);
  Value layer_norm(Value x, const std::string& name, float epsilon);
  Value rope_angles(const Rotation& rotation, const std::string& name);
  Value rope(Value x, Value angles, int64_t head_size, const std::string& name);
  // Writes k and v to the cache of this layer and attends.
  Value attention(int64_t layer, Value q, Value k, Value v, const AttentionSettings& settings, const std::string& name);
  Value add(AnyOp op, Values inputs, const std::string& name) {
    return network.add_one(std::move(op), std::move(inputs), name);
  }

  // --- the end ---

  // The rows of the last hidden states whose logits are wanted.
  Value output_rows(Value x);
  Value logits(Value x, Value head);
  // Declares logits and the final states as outputs.
  Network finish(Value logits);

  Network network;

 private:
  Value weight(const std::string& name, Recipe recipe, DType dtype);
  Value input(const std::string& name, Dim size);
  void add_choice_inputs();
  // The cache group of layers with this window.
  std::string group_of(int64_t window);
  Value gain_norm(Value x, const std::string& name, float epsilon, Recipe gain);

  const Checkpoint& checkpoint_;
  const ModelOptions options_;
  const std::string prefix_;
  std::vector<std::pair<std::string, Value>> states_;  // the last versions
};

}  // namespace ingot
