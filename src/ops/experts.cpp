#include "ops/experts.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/typing.h"

namespace ingot {

Types Route::infer(const Types& inputs) const {
  check_input_count(inputs, 1, 1);
  const TensorType& logits = inputs[0];
  check_type(is_float_matrix(logits) && logits.shape[1].is_constant(), logits, "logits, float [tokens, experts],");
  if (top_k < 1 || top_k > logits.shape[1].constant())
    fail(ErrorCode::kRuntime, "found top_k = {} where 1 to {} is needed", top_k, logits.shape[1].constant());
  Shape shape = {logits.shape[0], Dim(top_k)};
  return {{DType::kI32, shape, ""}, {DType::kF32, shape, ""}};
}

HostTensors Route::evaluate(const HostTensors& inputs) const {
  const HostTensor& logits = inputs[0];
  int64_t tokens = logits.size(0), experts = logits.size(1);
  HostTensor ids(TensorType{DType::kI32, {tokens, top_k}, ""}), weights(TensorType{DType::kF32, {tokens, top_k}, ""});
  std::vector<int64_t> order(static_cast<size_t>(experts));
  for (int64_t t = 0; t < tokens; ++t) {
    const double* row = logits.values.data() + t * experts;
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return row[a] > row[b]; });
    double greatest = row[order[0]], sum = 0;
    int64_t counted = normalize ? top_k : experts;
    for (int64_t j = 0; j < counted; ++j) sum += std::exp(row[order[static_cast<size_t>(j)]] - greatest);
    for (int64_t j = 0; j < top_k; ++j) {
      int64_t expert = order[static_cast<size_t>(j)];
      ids.values[static_cast<size_t>(t * top_k + j)] = static_cast<double>(expert);
      weights.values[static_cast<size_t>(t * top_k + j)] = std::exp(row[expert] - greatest) / sum;
    }
  }
  return {ids, weights};
}

Types ExpertMlp::infer(const Types& inputs) const {
  check_input_count(inputs, 5, 5);
  const TensorType &x = inputs[0], &ids = inputs[1], &weights = inputs[2], &gate_up = inputs[3], &down = inputs[4];
  check_type(is_float_matrix(x), x, "x, a float matrix [tokens, h],");
  check_type(ids.dtype == DType::kI32 && ids.rank() == 2 && ids.shape[0] == x.shape[0], ids,
             format("ids, i32[{}, top_k],", print(x.shape[0])));
  check_type(is_wide_float(weights.dtype) && weights.shape == ids.shape, weights,
             format("weights, f32 of the ids' shape {},", print(ids)));
  bool fits = is_float(gate_up.dtype) && gate_up.rank() == 3 && gate_up.shape[2] == x.shape[1] &&
              gate_up.shape[1].is_constant() && gate_up.shape[1].constant() > 0 && gate_up.shape[1].constant() % 2 == 0;
  check_type(fits, gate_up, format("gate_up, float [experts, 2i, {}],", print(x.shape[1])));
  Shape shape = {gate_up.shape[0], x.shape[1], Dim(gate_up.shape[1].constant() / 2)};
  check_type(is_float(down.dtype) && down.shape == shape, down,
             format("down, float [{}, {}, {}],", print(shape[0]), print(shape[1]), print(shape[2])));
  return {{x.dtype, x.shape, ""}};
}

HostTensors ExpertMlp::evaluate(const HostTensors& inputs) const {
  const HostTensor &x = inputs[0], &ids = inputs[1], &weights = inputs[2], &gate_up = inputs[3], &down = inputs[4];
  int64_t tokens = x.size(0), h = x.size(1), top_k = ids.size(1), experts = gate_up.size(0), n = down.size(2);
  auto dot = [](const double* a, const double* b, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += a[i] * b[i];
    return sum;
  };
  HostTensor y(TensorType{x.type.dtype, {tokens, h}, ""});
  std::vector<double> inner(static_cast<size_t>(n));
  for (int64_t t = 0; t < tokens; ++t) {
    const double* row = x.values.data() + t * h;
    for (int64_t j = 0; j < top_k; ++j) {
      size_t at = static_cast<size_t>(t * top_k + j);
      int64_t expert = checked_index(ids.values[at], experts, "the expert");
      const double* gate = gate_up.values.data() + expert * 2 * n * h;
      const double* up = gate + n * h;
      for (int64_t i = 0; i < n; ++i)
        inner[static_cast<size_t>(i)] = apply(function, dot(gate + i * h, row, h)) * dot(up + i * h, row, h);
      const double* out = down.values.data() + expert * h * n;
      for (int64_t i = 0; i < h; ++i)
        y.values[static_cast<size_t>(t * h + i)] += weights.values[at] * dot(out + i * n, inner.data(), n);
    }
  }
  return {y};
}

double ExpertMlp::flops(const Types& inputs) const {
  double gate_up =
      static_cast<double>(inputs[3].shape[1].constant()) * static_cast<double>(inputs[3].shape[2].constant());
  double down = static_cast<double>(inputs[4].shape[1].constant()) * static_cast<double>(inputs[4].shape[2].constant());
  return 2 * static_cast<double>(inputs[1].elements()) * (gate_up + down);
}

}  // namespace ingot
