// What follows the sum of a matmul: function(sum + bias) + residual, or function(gate) * up. Kernels are compiled with
// BIAS_TYPE and RESIDUAL_TYPE, absent when there is no such input.
#pragma once

#include "device/activation.cuh"

struct absent {};

template <class A, class B>
constexpr bool kSame = false;
template <class A>
constexpr bool kSame<A, A> = true;

// `column` is the output feature, `at` the element of y.
template <class F, class B, class R>
__device__ __forceinline__ float epilogue(float sum, const B* bias, int column, const R* residual, int64 at) {
  if constexpr (!kSame<B, absent>) sum += to_float(bias[column]);
  sum = F::of(sum);
  if constexpr (!kSame<R, absent>) sum += to_float(residual[at]);
  return sum;
}

// Output `column` of a gated matmul that has `outputs` of them, from the sums of two rows of w.
template <class F, class B>
__device__ __forceinline__ float gated_epilogue(float gate, float up, const B* bias, int column, int outputs) {
  if constexpr (!kSame<B, absent>) gate += to_float(bias[column]), up += to_float(bias[outputs + column]);
  return F::of(gate) * up;
}
