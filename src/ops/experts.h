// Mixture of experts. No shape depends on data: every token has `top_k` experts.
#pragma once

#include "ops/activation_function.h"
#include "ops/op.h"

namespace ingot {

// (ids, weights): the top_k experts of every token by softmax(logits), with their probabilities; with `normalize` these
// are divided by their sum. logits float [tokens, experts]; ids i32 and weights f32 [tokens, top_k], in order of
// falling probability, equal ones by index.
struct Route {
  static constexpr std::string_view name = "route";
  int64_t top_k = 1;
  bool normalize = true;
  static constexpr auto fields() {
    return std::tuple{field("top_k", &Route::top_k), field("normalize", &Route::normalize)};
  }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types&) const { return {true}; }
};

// y[t] = Σ_j weights[t, j] * down[e] · (function(gate[e] · x[t]) * (up[e] · x[t])), e = ids[t, j].
// x [tokens, h]; ids i32, weights f32 [tokens, top_k]; gate_up [experts, 2i, h] with the i gate rows before the i up
// rows; down [experts, h, i]. y [tokens, h] of x's dtype.
struct ExpertMlp {
  static constexpr std::string_view name = "expert_mlp";
  ActivationFunction function = ActivationFunction::kSilu;
  static constexpr auto fields() { return std::tuple{field("function", &ExpertMlp::function)}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types&) const { return {true, true, true, false, false}; }
  double flops(const Types& inputs) const;
};

}  // namespace ingot
