// Small checks that typing rules and evaluations share. They fail instead of overflowing on absurd sizes.
#pragma once

#include <cstdint>
#include <string_view>

#include "tensor/type.h"

namespace ingot {

// Whether a dtype serves where f32 is asked for; f64 does, in evaluation without rounding.
inline bool is_wide_float(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF64; }
inline bool is_float_matrix(const TensorType& type) { return is_float(type.dtype) && type.rank() == 2; }
// A wide float vector of `size` elements.
bool is_wide_vector(const TensorType& type, const Dim& size);
// An i32 vector of `size` elements, or of any size.
bool is_index_vector(const TensorType& type, const Dim& size);
bool is_index_vector(const TensorType& type);
// Whether the last dimension is constant, positive and a multiple of `group`.
bool holds_groups_of(const TensorType& type, int64_t group);

int64_t multiplied(int64_t a, int64_t b);  // throws an Error on overflow
Dim plus_one(const Dim& dim);              // the same

// `value` as an index; an Error that says `what` unless it is in 0 … limit - 1.
int64_t checked_index(double value, int64_t limit, std::string_view what);

}  // namespace ingot
