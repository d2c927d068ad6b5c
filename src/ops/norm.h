// Normalizations over the last dimension.
#pragma once

#include "ops/op.h"

namespace ingot {

// y = x / sqrt(mean(x²) + epsilon) * gamma over consecutive groups of gamma's size: with gamma [h] and x [rows, h] the
// usual norm, with gamma [head_size] and x [rows, heads * head_size] the norm of each head. gamma is f32.
struct RmsNorm {
  static constexpr std::string_view name = "rms_norm";
  float epsilon = 1e-6f;
  static constexpr auto fields() { return std::tuple{field("epsilon", &RmsNorm::epsilon)}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types&) const { return {true, false}; }
};

// y = (x - mean) / sqrt(variance + epsilon) * gamma + beta over the last dimension; gamma and beta f32 [h].
struct LayerNorm {
  static constexpr std::string_view name = "layer_norm";
  float epsilon = 1e-5f;
  static constexpr auto fields() { return std::tuple{field("epsilon", &LayerNorm::epsilon)}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types&) const { return {true, false, false}; }
};

// (s, y) = (a + b, rms_norm(a + b, gamma)); a, b [rows, h]; gamma f32 [h].
struct AddRmsNorm {
  static constexpr std::string_view name = "add_rms_norm";
  float epsilon = 1e-6f;
  static constexpr auto fields() { return std::tuple{field("epsilon", &AddRmsNorm::epsilon)}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types&) const { return {true, true, false}; }
};

// (s, y) = (a + b, layer_norm(a + b, gamma, beta)).
struct AddLayerNorm {
  static constexpr std::string_view name = "add_layer_norm";
  float epsilon = 1e-5f;
  static constexpr auto fields() { return std::tuple{field("epsilon", &AddLayerNorm::epsilon)}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types&) const { return {true, true, false, false}; }
};

}  // namespace ingot
