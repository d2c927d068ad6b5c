#include "ops/matmul.h"

#include <algorithm>

#include "ops/typing.h"

namespace ingot {

namespace {

// Of y. Evaluation without rounding has x in f64, and then y as well.
DType result_dtype(const Matmul& op, DType x) { return op.wide && !is_wide_float(x) ? DType::kF32 : x; }

}  // namespace

Types Matmul::infer(const Types& inputs) const {
  size_t count = 2 + size_t{bias} + size_t{residual};
  check_input_count(inputs, count, count);
  const TensorType &x = inputs[0], &w = inputs[1];
  check_type(is_float_matrix(x), x, "x, a float matrix [rows, k],");
  check_type(is_float_matrix(w) && w.shape[1] == x.shape[1], w,
             format("w, a float matrix [n, {}] with x's k,", print(x.shape[1])));
  check_type(!wide || !is_wide_float(x.dtype), x, "x, f16 or bf16 because the result is wide,");
  TensorType y{result_dtype(*this, x.dtype), {x.shape[0], w.shape[0]}, ""};
  if (gated) {
    if (residual) fail(ErrorCode::kRuntime, "a gated matmul takes no residual");
    check_type(w.shape[0].symbol.empty() && w.shape[0].constant() % 2 == 0, w, "w, a float matrix [2n, k],");
    y.shape[1] = Dim(w.shape[0].constant() / 2);
  }
  if (bias) {
    const TensorType& b = inputs[2];
    check_type((is_wide_float(b.dtype) || b.dtype == x.dtype) && b.rank() == 1 && b.shape[0] == w.shape[0], b,
               format("the bias, f32 or {} [{}],", enum_name(x.dtype), print(w.shape[0])));
  }
  if (residual) {
    const TensorType& r = inputs.back();
    check_type(r.dtype == y.dtype && r.shape == y.shape, r, format("the residual, {},", print(y)));
  }
  return {y};
}

HostTensors Matmul::evaluate(const HostTensors& inputs) const {
  const HostTensor &x = inputs[0], &w = inputs[1];
  int64_t rows = x.size(0), k = x.size(1), n = gated ? w.size(0) / 2 : w.size(0);
  HostTensor y(TensorType{result_dtype(*this, x.type.dtype), {rows, n}, ""});
  auto feature = [&](int64_t i, int64_t j) {
    const double *a = x.values.data() + i * k, *b = w.values.data() + j * k;
    double sum = 0;
    for (int64_t l = 0; l < k; ++l) sum += a[l] * b[l];
    return bias ? sum + inputs[2].values[static_cast<size_t>(j)] : sum;
  };
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      size_t at = static_cast<size_t>(i * n + j);
      double value = apply(function, feature(i, j));
      if (gated) value *= feature(i, n + j);
      if (residual) value += inputs.back().values[at];
      y.values[at] = value;
    }
  }
  return {y};
}

double Matmul::evaluate_at(std::span<const TensorView> inputs, int, int64_t index) const {
  const TensorView &x = inputs[0], &w = inputs[1];
  int64_t k = x.type.shape[1].constant(), n = w.type.shape[0].constant() / (gated ? 2 : 1);
  int64_t row = index / n, column = index % n;
  auto feature = [&](int64_t j) {
    double sum = 0;
    for (int64_t l = 0; l < k; ++l) sum += x[row * k + l] * w[j * k + l];
    return bias ? sum + inputs[2][j] : sum;
  };
  double value = apply(function, feature(column));
  if (gated) value *= feature(n + column);
  if (residual) value += inputs.back()[index];
  return value;
}

std::vector<bool> Matmul::row_inputs(const Types& inputs) const {
  std::vector<bool> rows(inputs.size());
  rows.front() = true;
  rows.back() = rows.back() || residual;
  return rows;
}

double Matmul::flops(const Types& inputs) const {
  return 2.0 * static_cast<double>(inputs[0].elements()) * static_cast<double>(inputs[1].shape[0].constant());
}

// Every output feature costs the same, so fewer of them stand for all. Multiples of 64 suit every tile. So few would
// show what they share, such as packing x, that reading less is no reason to keep fewer than 256.
double Matmul::cut(Types& inputs, int64_t max_bytes, double max_flops) const {
  TensorType& w = inputs[1];
  int64_t n = w.shape[0].constant();
  if (n == 0) return 1;
  double by_bytes = static_cast<double>(max_bytes) / (static_cast<double>(w.bytes()) / static_cast<double>(n));
  double by_flops = max_flops / (flops(inputs) / static_cast<double>(n));
  int64_t kept = std::max<int64_t>(128, static_cast<int64_t>(std::min(std::max(by_bytes, 256.0), by_flops)) / 64 * 64);
  if (kept >= n) return 1;
  w.shape[0] = Dim(kept);
  if (bias) inputs[2].shape[0] = Dim(kept);
  if (residual) inputs.back().shape[1] = Dim(kept);
  return static_cast<double>(n) / static_cast<double>(kept);
}

}  // namespace ingot
