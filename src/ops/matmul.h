// y = function(x · wᵀ + bias) + residual; gated: y = function(gate) * up, where [gate, up] = x · wᵀ + bias
//
// x [rows, k] float, w [n, k] float (one output feature per row, as Hugging Face stores linear layers), then, if the
// fields say so, bias f32 or x's dtype [n] and residual [rows, n] of y's dtype. y [rows, n] has x's dtype, or f32 when
// `wide`, which x of f16 or bf16 may ask for: the sums are not rounded to x's dtype then. A gated one has an even n,
// gate before up, y [rows, n / 2] and no residual.
#pragma once

#include "ops/activation_function.h"
#include "ops/op.h"

namespace ingot {

struct Matmul {
  static constexpr std::string_view name = "matmul";
  bool bias = false;
  ActivationFunction function = ActivationFunction::kNone;
  bool residual = false;
  bool wide = false;
  bool gated = false;
  // Whether y is the products, at most with a bias: nothing follows them yet.
  bool bare() const { return function == ActivationFunction::kNone && !residual && !gated; }
  static constexpr auto fields() {
    return std::tuple{field("bias", &Matmul::bias), field("function", &Matmul::function),
                      field("residual", &Matmul::residual), field("wide", &Matmul::wide),
                      field("gated", &Matmul::gated)};
  }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types& inputs) const;
  double evaluate_at(std::span<const TensorView> inputs, int output, int64_t index) const;
  double flops(const Types& inputs) const;
  double cut(Types& inputs, int64_t max_bytes, double max_flops) const;  // in n
};

}  // namespace ingot
