// Rows of elements in memory as floats in registers, moved in accesses of up to 16 bytes.
#pragma once

#include "device/prelude.cuh"

// The floats of one 32-bit word of T: one f32, or two halves.
__device__ __forceinline__ void word_to_floats(float, uint32 word, float* x) { x[0] = __uint_as_float(word); }
template <class Half>
__device__ __forceinline__ void word_to_floats(Half type, uint32 word, float* x) {
  float2 pair = pair_to_float(type, word);
  x[0] = pair.x, x[1] = pair.y;
}
__device__ __forceinline__ uint32 word_from_floats(float, const float* x) { return __float_as_uint(x[0]); }
template <class Half>
__device__ __forceinline__ uint32 word_from_floats(Half type, const float* x) {
  return pair_from_float(type, x[0], x[1]);
}

__host__ __device__ constexpr int smaller(int a, int b) { return a < b ? a : b; }
__host__ __device__ constexpr int greater(int a, int b) { return a < b ? b : a; }
__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// x = p[0 … N-1]; p is a multiple of N * sizeof(T) bytes, or of 16 if that is less.
template <int N, class T>
__device__ __forceinline__ void load_floats(const T* p, float* x) {
  if constexpr (N * sizeof(T) < 4) {
    x[0] = to_float(p[0]);
  } else {
    constexpr int kPerWord = 4 / sizeof(T), kWords = N / kPerWord, kChunk = smaller(kWords, 4);
#pragma unroll
    for (int chunk = 0; chunk < kWords; chunk += kChunk) {
      Pack<uint32, kChunk> words = load_pack<kChunk>(reinterpret_cast<const uint32*>(p) + chunk);
#pragma unroll
      for (int w = 0; w < kChunk; ++w) word_to_floats(T{}, words.at[w], x + (chunk + w) * kPerWord);
    }
  }
}

// p[0 … N-1] = x, rounded to T; p as for load_floats.
template <int N, class T>
__device__ __forceinline__ void store_floats(T* p, const float* x) {
  if constexpr (N * sizeof(T) < 4) {
    p[0] = from_float<T>(x[0]);
  } else {
    constexpr int kPerWord = 4 / sizeof(T), kWords = N / kPerWord, kChunk = smaller(kWords, 4);
#pragma unroll
    for (int chunk = 0; chunk < kWords; chunk += kChunk) {
      Pack<uint32, kChunk> words;
#pragma unroll
      for (int w = 0; w < kChunk; ++w) words.at[w] = word_from_floats(T{}, x + (chunk + w) * kPerWord);
      store_pack(reinterpret_cast<uint32*>(p) + chunk, words);
    }
  }
}
