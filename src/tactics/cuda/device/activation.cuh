// The functions of ops/activation_function.h. A kernel is compiled with FUNCTION as one of the names below.
#pragma once

#include "device/prelude.cuh"

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

struct act_none {
  static __device__ __forceinline__ float of(float x) { return x; }
};
struct act_silu {
  static __device__ __forceinline__ float of(float x) { return x * sigmoid(x); }
};
struct act_gelu {
  static __device__ __forceinline__ float of(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678f)); }
};
struct act_gelu_tanh {
  static __device__ __forceinline__ float of(float x) {
    return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
  }
};
struct act_quick_gelu {
  static __device__ __forceinline__ float of(float x) { return x * sigmoid(1.702f * x); }
};
struct act_relu {
  static __device__ __forceinline__ float of(float x) { return fmaxf(x, 0.0f); }
};
struct act_tanh {
  static __device__ __forceinline__ float of(float x) { return tanhf(x); }
};
struct act_sigmoid {
  static __device__ __forceinline__ float of(float x) { return sigmoid(x); }
};

// F for results that are rounded to 16 bits, where expf and a division would take longer than all else: off by less
// than 1e-5 of the value.
template <class F>
struct Rough : F {};
template <>
struct Rough<act_silu> {
  static __device__ __forceinline__ float of(float x) { return __fdividef(x, 1.0f + __expf(-x)); }
};
template <>
struct Rough<act_quick_gelu> {
  static __device__ __forceinline__ float of(float x) { return __fdividef(x, 1.0f + __expf(-1.702f * x)); }
};

template <class F, class Result>
struct ForResult : F {};
template <class F>
struct ForResult<F, bf16> : Rough<F> {};
template <class F>
struct ForResult<F, f16> : Rough<F> {};
