// What the kernels for a few rows of x share: x in shared memory, products of weight rows with it, and the epilogue of
// a block's rows. Compiled with FEATURES x DEPTH (the shape of w), the types W_TYPE, X_TYPE, Y_TYPE, BIAS_TYPE,
// RESIDUAL_TYPE, FUNCTION, GATED (0 or 1), ROWS (rows of x at a time) and UNIT_ROWS (rows of w at a time).
#pragma once

#include "device/epilogue.cuh"
#include "device/mma_sync.cuh"

using W = W_TYPE;
using X = X_TYPE;
using Y = Y_TYPE;
using Bias = BIAS_TYPE;
using Residual = RESIDUAL_TYPE;
constexpr int kN = FEATURES, kK = DEPTH;
constexpr int kRowsEach = GATED ? 2 : 1;  // rows of w for one output
constexpr int kOutputs = kN / kRowsEach;
constexpr int kVector = 16 / sizeof(W);  // elements of one load
constexpr int kPieces = kK / kVector;    // loads of one row of w

// --- x: pieces of 16 bytes in the dtype of w -----------------------------------------------------------------------

__device__ __forceinline__ uint4 pack_piece(float, const float (&v)[4]) {
  return {__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]), __float_as_uint(v[3])};
}
template <class T>
__device__ __forceinline__ uint4 pack_piece(T type, const float (&v)[8]) {
  return {pair_from_float(type, v[0], v[1]), pair_from_float(type, v[2], v[3]), pair_from_float(type, v[4], v[5]),
          pair_from_float(type, v[6], v[7])};
}
__device__ __forceinline__ uint4 load_x(const X* x) {
  if constexpr (kSame<X, W>) {
    return *reinterpret_cast<const uint4*>(x);
  } else {
    float v[kVector];
#pragma unroll
    for (int i = 0; i < kVector; i += 4) {
      Pack<X, 4> four = load_pack<4>(x + i);
#pragma unroll
      for (int j = 0; j < 4; ++j) v[i + j] = to_float(four.at[j]);
    }
    return pack_piece(W{}, v);
  }
}

// The rows `first` … `first + ROWS - 1` of x, each padded with zeros to PADDED pieces; rows that do not exist are zero.
template <int PADDED, int THREADS>
__device__ __forceinline__ void stage_x(uint4* shared, const X* x, int first, int rows) {
#pragma unroll
  for (int token = 0; token < ROWS; ++token) {
    const X* row = x + int64(first + token) * kK;
    bool exists = first + token < rows;
#pragma unroll 4
    for (int i = threadIdx.x; i < PADDED; i += THREADS)
      shared[token * PADDED + i] = exists && i < kPieces ? load_x(row + i * kVector) : uint4{0, 0, 0, 0};
  }
}

// --- products ------------------------------------------------------------------------------------------------------

// The sums of UNIT_ROWS weight rows times ROWS rows of x. Every lane adds 16 bytes of each at a time; share() is its
// part of a sum, and the sum is that over the warp.
template <class T>
struct Products {
  static constexpr int kPairs = (UNIT_ROWS + 1) / 2;
  float c[ROWS][kPairs][2][4] = {};

  // Lane 4 g + t holds in w and x the same 8 of the k's. With four of them as A[g][2t, 2t+1, 2t+8, 2t+9] and
  // B[2t, 2t+1, 2t+8, 2t+9][g], the diagonal C[g][g] sums their products over the four lanes of g; the rest of C is not
  // wanted, but one instruction replaces sixteen. Rows 8 … 15 of A are a second row of w.
  __device__ __forceinline__ void add(int token, const uint4 (&w)[UNIT_ROWS], uint4 x) {
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      uint4 a = w[2 * p], b = {0, 0, 0, 0};
      if constexpr (UNIT_ROWS > 1) b = w[2 * p + 1];
      multiply_add(T{}, c[token][p][0], {a.x, b.x, a.y, b.y}, x.x, x.y);
      multiply_add(T{}, c[token][p][1], {a.z, b.z, a.w, b.w}, x.z, x.w);
    }
  }
  __device__ __forceinline__ float share(int token, int row) const {
    int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3, i = row % 2 * 2;
    const float(&a)[4] = c[token][row / 2][0];
    const float(&b)[4] = c[token][row / 2][1];
    float sum = g & 1 ? a[i + 1] + b[i + 1] : a[i] + b[i];
    return g >> 1 == t ? sum : 0.0f;
  }
};
template <>
struct Products<float> {
  float sums[ROWS][UNIT_ROWS] = {};

  __device__ __forceinline__ void add(int token, const uint4 (&w)[UNIT_ROWS], uint4 x) {
#pragma unroll
    for (int r = 0; r < UNIT_ROWS; ++r) {
      float s = sums[token][r];
      s = fmaf(__uint_as_float(w[r].x), __uint_as_float(x.x), s);
      s = fmaf(__uint_as_float(w[r].y), __uint_as_float(x.y), s);
      s = fmaf(__uint_as_float(w[r].z), __uint_as_float(x.z), s);
      sums[token][r] = fmaf(__uint_as_float(w[r].w), __uint_as_float(x.w), s);
    }
  }
  __device__ __forceinline__ float share(int token, int row) const { return sums[token][row]; }
};

// The sums over the warp of share(token, 0 … UNIT_ROWS - 1), handed as store(row, sum) by one lane each.
template <class F>
__device__ __forceinline__ void sum_shares(const Products<W>& products, int token, F store) {
  int lane = threadIdx.x & 31;
  if constexpr (UNIT_ROWS == 1) {
    float sum = warp_sum(products.share(token, 0));
    if (lane == 0) store(0, sum);
  } else {
    // The halves of the warp take one row of a pair each: six shuffles instead of ten.
    bool upper = lane >= 16;
#pragma unroll
    for (int r = 0; r < UNIT_ROWS; r += 2) {
      float a = products.share(token, r), b = products.share(token, r + 1);
      float sum = (upper ? b : a) + __shfl_xor_sync(0xffffffffu, upper ? a : b, 16);
#pragma unroll
      for (int step = 8; step > 0; step >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, step);
      if ((lane & 15) == 0) store(r + upper, sum);
    }
  }
}

// The same two rows at a time, handed as store(first row, its sum, the sum of the next).
template <class F>
__device__ __forceinline__ void sum_pairs(const Products<W>& products, int token, F store) {
  static_assert(UNIT_ROWS % 2 == 0);
#pragma unroll
  for (int r = 0; r < UNIT_ROWS; r += 2) {
    float first = warp_sum(products.share(token, r)), second = warp_sum(products.share(token, r + 1));
    if ((threadIdx.x & 31) == 0) store(r, first, second);
  }
}
