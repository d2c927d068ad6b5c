#include "ops/indexing.h"

#include <algorithm>

#include "ops/typing.h"

namespace ingot {

namespace {

// The rows of `x` that `ids` names.
HostTensor picked(const HostTensor& x, const HostTensor& ids, DType dtype, std::string_view what) {
  int64_t count = ids.size(0), width = x.size(1);
  HostTensor y(TensorType{dtype, {count, width}, ""});
  for (int64_t i = 0; i < count; ++i) {
    int64_t row = checked_index(ids.values[static_cast<size_t>(i)], x.size(0), what);
    std::copy_n(x.values.begin() + row * width, width, y.values.begin() + i * width);
  }
  return y;
}

}  // namespace

Types Embedding::infer(const Types& inputs) const {
  check_input_count(inputs, 2, 2);
  const TensorType &ids = inputs[0], &table = inputs[1];
  check_type(is_index_vector(ids), ids, "ids, i32[tokens],");
  check_type(is_float_matrix(table), table, "the table, a float matrix [vocab, h],");
  if (!is_float(dtype)) fail(ErrorCode::kRuntime, "found dtype = {} where a float dtype is needed", enum_name(dtype));
  return {{dtype, {ids.shape[0], table.shape[1]}, ""}};
}

HostTensors Embedding::evaluate(const HostTensors& inputs) const {
  return {picked(inputs[1], inputs[0], dtype, "the id")};
}

Types GatherRows::infer(const Types& inputs) const {
  check_input_count(inputs, 2, 2);
  const TensorType &x = inputs[0], &rows = inputs[1];
  check_type(is_float_matrix(x), x, "x, a float matrix [tokens, h],");
  check_type(is_index_vector(rows), rows, "rows, i32[outputs],");
  return {{x.dtype, {rows.shape[0], x.shape[1]}, ""}};
}

HostTensors GatherRows::evaluate(const HostTensors& inputs) const {
  return {picked(inputs[0], inputs[1], inputs[0].type.dtype, "the row")};
}

Types Slice::infer(const Types& inputs) const {
  check_input_count(inputs, 1, 1);
  const TensorType& x = inputs[0];
  check_type(is_float_matrix(x) && x.shape[1].is_constant(), x, "x, a float matrix [rows, n] with constant n,");
  if (begin < 0 || end <= begin || end > x.shape[1].constant())
    fail(ErrorCode::kRuntime, "found columns {} to {} where a part of 0 to {} is needed", begin, end,
         x.shape[1].constant());
  return {{x.dtype, {x.shape[0], Dim(end - begin)}, ""}};
}

HostTensors Slice::evaluate(const HostTensors& inputs) const {
  const HostTensor& x = inputs[0];
  int64_t rows = x.size(0), n = x.size(1), width = end - begin;
  HostTensor y(TensorType{x.type.dtype, {rows, width}, ""});
  for (int64_t i = 0; i < rows; ++i) std::copy_n(x.values.begin() + i * n + begin, width, y.values.begin() + i * width);
  return {y};
}

double Embedding::cut(Types& inputs, int64_t max_bytes, double) const {
  TensorType& table = inputs[1];
  int64_t vocab = table.shape[0].constant();
  if (vocab == 0) return 1;
  int64_t row_bytes = std::max<int64_t>(1, table.bytes() / vocab);
  table.shape[0] = Dim(std::clamp<int64_t>(max_bytes / row_bytes, 1, vocab));
  return 1;
}

}  // namespace ingot
