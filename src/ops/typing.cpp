#include "ops/typing.h"

#include "base/error.h"

namespace ingot {

bool is_wide_vector(const TensorType& type, const Dim& size) {
  return is_wide_float(type.dtype) && type.rank() == 1 && type.shape[0] == size;
}

bool is_index_vector(const TensorType& type) { return type.dtype == DType::kI32 && type.rank() == 1; }
bool is_index_vector(const TensorType& type, const Dim& size) { return is_index_vector(type) && type.shape[0] == size; }

bool holds_groups_of(const TensorType& type, int64_t group) {
  if (type.rank() == 0 || group <= 0 || !type.shape.back().is_constant()) return false;
  int64_t size = type.shape.back().constant();
  return size > 0 && size % group == 0;
}

int64_t multiplied(int64_t a, int64_t b) {
  int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) fail(ErrorCode::kRuntime, "the size {} * {} overflows", a, b);
  return product;
}

Dim plus_one(const Dim& dim) {
  Dim next = dim;
  if (__builtin_add_overflow(dim.offset, 1, &next.offset))
    fail(ErrorCode::kRuntime, "the size {} + 1 overflows", print(dim));
  return next;
}

int64_t checked_index(double value, int64_t limit, std::string_view what) {
  if (!(value >= 0 && value < static_cast<double>(limit)))
    fail(ErrorCode::kRuntime, "found {} {} where one of 0 to {} is needed", what, value, limit - 1);
  return static_cast<int64_t>(value);
}

}  // namespace ingot
