#include "ops/pointwise.h"

#include <cmath>

#include "ops/typing.h"

namespace ingot {

namespace {

Types infer_binary(const Types& inputs) {
  check_input_count(inputs, 2, 2);
  const TensorType &a = inputs[0], &b = inputs[1];
  check_type(is_float(a.dtype), a, "a, a float tensor,");
  bool row = a.rank() == 2 && b.rank() == 1 && b.shape[0] == a.shape[1];
  check_type(is_float(b.dtype) && (b.shape == a.shape || row), b,
             format("b, a float tensor of a's shape {} or a vector of its row size,", print(a)));
  return {{a.dtype, a.shape, ""}};
}

Types infer_unary(const Types& inputs) {
  check_input_count(inputs, 1, 1);
  check_type(is_float(inputs[0].dtype), inputs[0], "x, a float tensor,");
  return {{inputs[0].dtype, inputs[0].shape, ""}};
}

// A vector beside a matrix serves every row.
std::vector<bool> binary_rows(const Types& inputs) { return {true, inputs[0].rank() == inputs[1].rank()}; }

// f(a, b) for every element of a; b repeats when it is a row.
template <class F>
HostTensors combined(const HostTensors& inputs, F f) {
  HostTensor result = inputs[0];
  const std::vector<double>& b = inputs[1].values;
  for (size_t i = 0; i < result.values.size(); ++i) result.values[i] = f(result.values[i], b[i % b.size()]);
  return {result};
}

template <class F>
HostTensors mapped(const HostTensors& inputs, F f) {
  HostTensor result = inputs[0];
  for (double& value : result.values) value = f(value);
  return {result};
}

}  // namespace

Types Add::infer(const Types& inputs) const { return infer_binary(inputs); }
std::vector<bool> Add::row_inputs(const Types& inputs) const { return binary_rows(inputs); }
HostTensors Add::evaluate(const HostTensors& inputs) const {
  return combined(inputs, [](double a, double b) { return a + b; });
}

Types Multiply::infer(const Types& inputs) const { return infer_binary(inputs); }
std::vector<bool> Multiply::row_inputs(const Types& inputs) const { return binary_rows(inputs); }
HostTensors Multiply::evaluate(const HostTensors& inputs) const {
  return combined(inputs, [](double a, double b) { return a * b; });
}

Types Scale::infer(const Types& inputs) const { return infer_unary(inputs); }
HostTensors Scale::evaluate(const HostTensors& inputs) const {
  return mapped(inputs, [&](double x) { return x * factor; });
}

Types SoftCap::infer(const Types& inputs) const {
  if (!(cap > 0)) fail(ErrorCode::kRuntime, "found cap = {} where a positive number is needed", cap);
  return infer_unary(inputs);
}
HostTensors SoftCap::evaluate(const HostTensors& inputs) const {
  return mapped(inputs, [&](double x) { return cap * std::tanh(x / cap); });
}

Types Activation::infer(const Types& inputs) const { return infer_unary(inputs); }
HostTensors Activation::evaluate(const HostTensors& inputs) const {
  return mapped(inputs, [&](double x) { return apply(function, x); });
}

Types GatedActivation::infer(const Types& inputs) const {
  check_input_count(inputs, 1, 2);
  const TensorType& gate = inputs[0];
  check_type(is_float_matrix(gate), gate, inputs.size() == 1 ? "a float matrix [rows, 2n]" : "gate, a float matrix,");
  if (inputs.size() == 2) {
    check_type(is_float(inputs[1].dtype) && inputs[1].shape == gate.shape, inputs[1],
               format("up, a float tensor of gate's shape {},", print(gate)));
    return {{gate.dtype, gate.shape, ""}};
  }
  check_type(holds_groups_of(gate, 2), gate, "a float matrix [rows, 2n]");
  return {{gate.dtype, {gate.shape[0], Dim(gate.shape[1].constant() / 2)}, ""}};
}

HostTensors GatedActivation::evaluate(const HostTensors& inputs) const {
  if (inputs.size() == 2) return combined(inputs, [&](double gate, double up) { return apply(function, gate) * up; });
  const HostTensor& both = inputs[0];
  int64_t rows = both.size(0), n = both.size(1) / 2;
  HostTensor result(TensorType{both.type.dtype, {rows, n}, ""});
  for (int64_t i = 0; i < rows; ++i) {
    const double* row = both.values.data() + i * 2 * n;
    for (int64_t j = 0; j < n; ++j)
      result.values[static_cast<size_t>(i * n + j)] = apply(function, row[j]) * row[n + j];
  }
  return {result};
}

Types Cast::infer(const Types& inputs) const {
  Types types = infer_unary(inputs);
  if (!is_float(dtype)) fail(ErrorCode::kRuntime, "found dtype = {} where a float dtype is needed", enum_name(dtype));
  types[0].dtype = dtype;
  return types;
}
HostTensors Cast::evaluate(const HostTensors& inputs) const {
  HostTensor result = inputs[0];
  result.type.dtype = dtype;
  return {result};
}

}  // namespace ingot
