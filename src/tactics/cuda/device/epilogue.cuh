// What follows the sum of a matmul: function(sum + bias) + residual. Kernels are compiled with
// BIAS_TYPE and RESIDUAL_TYPE, absent when there is no such input.
#pragma once

#include "device/activation.cuh"

struct absent {};
template <class T>
struct is_absent {
  static constexpr bool value = false;
};
template <>
struct is_absent<absent> {
  static constexpr bool value = true;
};

// `column` is the output feature, `at` the element of y.
template <class F, class B, class R>
__device__ __forceinline__ float epilogue(float sum, const B* bias, int column, const R* residual, int64 at) {
  if constexpr (!is_absent<B>::value) sum += to_float(bias[column]);
  sum = F::of(sum);
  if constexpr (!is_absent<R>::value) sum += to_float(residual[at]);
  return sum;
}
