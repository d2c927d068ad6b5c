// Tensors in host memory: views of typed bytes, and owned values in double precision for the reference evaluation.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "tensor/type.h"

namespace ingot {

// Typed memory somebody else owns. `type` is constant and row major.
struct TensorView {
  TensorType type;
  const void* data = nullptr;

  double operator[](int64_t index) const { return load_element(type.dtype, data, index); }
};

// A tensor of the reference evaluation: every element as a double that the dtype of `type` can hold exactly, unless
// the evaluation was asked not to round.
struct HostTensor {
  TensorType type;  // constant, row major
  std::vector<double> values;

  HostTensor() = default;
  explicit HostTensor(TensorType type_);  // zeros
  HostTensor(TensorType type_, std::vector<double> values_);
  explicit HostTensor(const TensorView& view);

  int64_t size(int64_t axis) const { return type.shape[static_cast<size_t>(axis)].constant(); }
  // The values stored as the dtype of `type`.
  std::vector<std::byte> bytes() const;
};

using HostTensors = std::vector<HostTensor>;

// `value` as the dtype would store it.
double rounded(DType dtype, double value);
void round_values(HostTensor& tensor);

// The same values as f64 tensors, for evaluation without rounding; integer tensors stay as they are.
HostTensor widened(const HostTensor& tensor);

}  // namespace ingot
