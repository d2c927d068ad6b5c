// Elementwise ops. Every result has the dtype of the first input.
#pragma once

#include "ops/activation_function.h"
#include "ops/op.h"

namespace ingot {

// a + b; b has a's shape, or is a vector [n] added to every row of a [rows, n].
struct Add {
  static constexpr std::string_view name = "add";
  static constexpr auto fields() { return std::tuple{}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types& inputs) const;
};

// a * b; b as for add.
struct Multiply {
  static constexpr std::string_view name = "multiply";
  static constexpr auto fields() { return std::tuple{}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types& inputs) const;
};

// x * factor.
struct Scale {
  static constexpr std::string_view name = "scale";
  float factor = 1;
  static constexpr auto fields() { return std::tuple{field("factor", &Scale::factor)}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types&) const { return {true}; }
};

// cap * tanh(x / cap).
struct SoftCap {
  static constexpr std::string_view name = "soft_cap";
  float cap = 1;
  static constexpr auto fields() { return std::tuple{field("cap", &SoftCap::cap)}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types&) const { return {true}; }
};

// function(x).
struct Activation {
  static constexpr std::string_view name = "activation";
  ActivationFunction function = ActivationFunction::kSilu;
  static constexpr auto fields() { return std::tuple{field("function", &Activation::function)}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types&) const { return {true}; }
};

// function(gate) * up. Inputs: gate and up, each [rows, n]; or one [rows, 2n] that holds gate before up in each row.
struct GatedActivation {
  static constexpr std::string_view name = "gated_activation";
  ActivationFunction function = ActivationFunction::kSilu;
  static constexpr auto fields() { return std::tuple{field("function", &GatedActivation::function)}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types& inputs) const { return std::vector<bool>(inputs.size(), true); }
};

// The same values in another float dtype.
struct Cast {
  static constexpr std::string_view name = "cast";
  DType dtype = DType::kF32;
  static constexpr auto fields() { return std::tuple{field("dtype", &Cast::dtype)}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types&) const { return {true}; }
};

}  // namespace ingot
