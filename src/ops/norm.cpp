#include "ops/norm.h"

#include <cmath>

#include "ops/typing.h"

namespace ingot {

namespace {

void check_matrix(const TensorType& x, std::string_view name) {
  check_type(is_float_matrix(x) && holds_groups_of(x, 1), x, format("{}, a float matrix [rows, h],", name));
}

void check_vector(const TensorType& type, const TensorType& x, std::string_view name) {
  check_type(is_wide_vector(type, x.shape.back()), type, format("{}, f32[{}],", name, print(x.shape.back())));
}

void check_same_shape(const TensorType& b, const TensorType& a) {
  check_type(is_float(b.dtype) && b.shape == a.shape, b, format("b, a float tensor of a's shape {},", print(a)));
}

HostTensor rms_norm(const HostTensor& x, const HostTensor& gamma, double epsilon) {
  HostTensor y = x;
  size_t size = gamma.values.size();
  for (size_t begin = 0; begin < x.values.size(); begin += size) {
    double sum = 0;
    for (size_t i = 0; i < size; ++i) sum += x.values[begin + i] * x.values[begin + i];
    double root = std::sqrt(sum / static_cast<double>(size) + epsilon);
    for (size_t i = 0; i < size; ++i) y.values[begin + i] = x.values[begin + i] / root * gamma.values[i];
  }
  return y;
}

HostTensor layer_norm(const HostTensor& x, const HostTensor& gamma, const HostTensor& beta, double epsilon) {
  HostTensor y = x;
  size_t size = gamma.values.size();
  for (size_t begin = 0; begin < x.values.size(); begin += size) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < size; ++i) sum += x.values[begin + i];
    double mean = sum / static_cast<double>(size);
    for (size_t i = 0; i < size; ++i) squares += (x.values[begin + i] - mean) * (x.values[begin + i] - mean);
    double root = std::sqrt(squares / static_cast<double>(size) + epsilon);
    for (size_t i = 0; i < size; ++i)
      y.values[begin + i] = (x.values[begin + i] - mean) / root * gamma.values[i] + beta.values[i];
  }
  return y;
}

HostTensor added(const HostTensor& a, const HostTensor& b) {
  HostTensor sum = a;
  for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += b.values[i];
  return sum;
}

}  // namespace

Types RmsNorm::infer(const Types& inputs) const {
  check_input_count(inputs, 2, 2);
  const TensorType &x = inputs[0], &gamma = inputs[1];
  check_matrix(x, "x");
  bool fits = is_wide_float(gamma.dtype) && gamma.rank() == 1 && gamma.is_constant() &&
              holds_groups_of(x, gamma.shape[0].constant());
  check_type(fits, gamma, format("gamma, f32 [h] with h a divisor of {},", print(x.shape[1])));
  return {{x.dtype, x.shape, ""}};
}

HostTensors RmsNorm::evaluate(const HostTensors& inputs) const { return {rms_norm(inputs[0], inputs[1], epsilon)}; }

Types LayerNorm::infer(const Types& inputs) const {
  check_input_count(inputs, 3, 3);
  check_matrix(inputs[0], "x");
  check_vector(inputs[1], inputs[0], "gamma");
  check_vector(inputs[2], inputs[0], "beta");
  return {{inputs[0].dtype, inputs[0].shape, ""}};
}

HostTensors LayerNorm::evaluate(const HostTensors& inputs) const {
  return {layer_norm(inputs[0], inputs[1], inputs[2], epsilon)};
}

Types AddRmsNorm::infer(const Types& inputs) const {
  check_input_count(inputs, 3, 3);
  const TensorType& a = inputs[0];
  check_matrix(a, "a");
  check_same_shape(inputs[1], a);
  check_vector(inputs[2], a, "gamma");
  TensorType result{a.dtype, a.shape, ""};
  return {result, result};
}

HostTensors AddRmsNorm::evaluate(const HostTensors& inputs) const {
  HostTensor sum = added(inputs[0], inputs[1]);
  return {sum, rms_norm(sum, inputs[2], epsilon)};
}

Types AddLayerNorm::infer(const Types& inputs) const {
  check_input_count(inputs, 4, 4);
  const TensorType& a = inputs[0];
  check_matrix(a, "a");
  check_same_shape(inputs[1], a);
  check_vector(inputs[2], a, "gamma");
  check_vector(inputs[3], a, "beta");
  TensorType result{a.dtype, a.shape, ""};
  return {result, result};
}

HostTensors AddLayerNorm::evaluate(const HostTensors& inputs) const {
  HostTensor sum = added(inputs[0], inputs[1]);
  return {sum, layer_norm(sum, inputs[2], inputs[3], epsilon)};
}

}  // namespace ingot
