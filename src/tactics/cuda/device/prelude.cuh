// What all device code shares: number formats, wide loads, reductions, programmatic dependent launch. Stands alone:
// NVRTC reads it without any toolkit header.
#pragma once

using int8 = signed char;
using uint8 = unsigned char;
using uint16 = unsigned short;
using uint32 = unsigned int;
using uint64 = unsigned long long;
using int64 = long long;

// --- number formats: storage types; all arithmetic is in float ------------------------------------------------------

struct bf16 {
  uint16 bits;
};
struct f16 {
  uint16 bits;
};

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float(uint32(x.bits) << 16); }
__device__ __forceinline__ float to_float(f16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}

template <class T>
struct From;
template <>
struct From<float> {
  static __device__ __forceinline__ float of(float x) { return x; }
};
template <>
struct From<bf16> {
  static __device__ __forceinline__ bf16 of(float x) {
    bf16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
  }
};
template <>
struct From<f16> {
  static __device__ __forceinline__ f16 of(float x) {
    f16 y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
  }
};
// Rounds to nearest, ties to even.
template <class T>
__device__ __forceinline__ T from_float(float x) {
  return From<T>::of(x);
}

// The two halves of a packed pair as floats, and back.
__device__ __forceinline__ float2 pair_to_float(bf16, uint32 pair) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
}
__device__ __forceinline__ float2 pair_to_float(f16, uint32 pair) {
  float2 y;
  asm("{.reg .f16 a, b; mov.b32 {a, b}, %2; cvt.f32.f16 %0, a; cvt.f32.f16 %1, b;}" : "=f"(y.x), "=f"(y.y) : "r"(pair));
  return y;
}
__device__ __forceinline__ uint32 pair_from_float(bf16, float low, float high) {
  uint32 pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
__device__ __forceinline__ uint32 pair_from_float(f16, float low, float high) {
  uint32 pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// --- memory ---------------------------------------------------------------------------------------------------------

// N consecutive elements that are loaded and stored as one access; N * sizeof(T) is 2, 4, 8 or 16 and the address a
// multiple of it.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T at[N];
};
template <int N, class T>
__device__ __forceinline__ Pack<T, N> load_pack(const T* p) {
  return *reinterpret_cast<const Pack<T, N>*>(p);
}
template <int N, class T>
__device__ __forceinline__ void store_pack(T* p, const Pack<T, N>& value) {
  *reinterpret_cast<Pack<T, N>*>(p) = value;
}

// 16 bytes of a weight: read once, past the first cache, never written while kernels run. Without a prefetch size:
// 256 bytes for the second cache took a Hopper GPU from 4.71 to 4.31 TB/s.
__device__ __forceinline__ uint4 load_weight(const void* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

__device__ __forceinline__ uint32 shared_address(const void* p) {
  return static_cast<uint32>(__cvta_generic_to_shared(p));
}

// --- reductions -----------------------------------------------------------------------------------------------------

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int lane = 16; lane > 0; lane >>= 1) x += __shfl_xor_sync(0xffffffffu, x, lane);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int lane = 16; lane > 0; lane >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, lane));
  return x;
}
// The sum over a block of WARPS warps, known to every thread. `shared` holds WARPS floats and may be used again after
// the next barrier.
template <int WARPS>
__device__ __forceinline__ float block_sum(float x, float* shared) {
  x = warp_sum(x);
  if (WARPS == 1) return x;
  if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5] = x;
  __syncthreads();
  float total = 0;
#pragma unroll
  for (int w = 0; w < WARPS; ++w) total += shared[w];
  return total;
}

// --- programmatic dependent launch ----------------------------------------------------------------------------------

// Every kernel calls wait_for_previous() in every thread before it touches anything but weights, and
// allow_next() as early as it likes (the next kernel's own wait still waits for the end of this one).
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void allow_next() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
