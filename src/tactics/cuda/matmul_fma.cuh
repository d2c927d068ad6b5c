// y = function(x · wᵀ + bias) + residual, or gated, for any sizes and float dtypes in true f32, on any GPU.
//
// A block of WARPS_M x WARPS_N warps computes TILE_M rows x TILE_N features, a thread every (4 WARPS_M)th row and (8
// WARPS_N)th feature of them. Tiles of 32 elements of k pass through STAGES stages of shared memory as rows of f32,
// each padded by 16 bytes: the 8 lanes that read 16 bytes of neighbouring rows then use all banks. Dtypes other than
// f32, and a DEPTH that 4 does not divide, are converted on their way, an element at a time.
//
// The caller: grid {ceil(FEATURES / TILE_N), ceil(rows / TILE_M)}, WARPS_M * WARPS_N * 32 threads and SHARED_BYTES of
// dynamic shared memory.
#include "device/epilogue.cuh"
#include "device/mma_sync.cuh"

using W = W_TYPE;
using X = X_TYPE;
using Y = Y_TYPE;
using Bias = BIAS_TYPE;
using Residual = RESIDUAL_TYPE;

constexpr int kN = FEATURES, kK = DEPTH, kDepth = 32, kPitch = kDepth + 4;
constexpr int kThreads = WARPS_M * WARPS_N * 32;
constexpr int kStrideM = 4 * WARPS_M, kStrideN = 8 * WARPS_N;
constexpr int kRows = TILE_M / kStrideM, kColumns = TILE_N / kStrideN;  // of one thread
constexpr int kSumsEach = GATED ? 2 : 1;                                // gate and up: neighbours of a thread
constexpr int kOutputs = kN / kSumsEach, kTileOutputs = TILE_N / kSumsEach;
constexpr int kSteps = (kK + kDepth - 1) / kDepth;
constexpr int kStageFloats = (TILE_M + TILE_N) * kPitch;
static_assert(STAGES * kStageFloats * 4 <= SHARED_BYTES);
static_assert(TILE_M % kStrideM == 0 && TILE_N % kStrideN == 0 && (!GATED || kColumns % 2 == 0));

__device__ __forceinline__ void load_four(float* target, const float* row, int k, bool exists) {
  if constexpr (kK % 4 == 0) {
    bool all = exists && k < kK;
    copy_async(shared_address(target), all ? row + k : row, all);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) target[i] = exists && k + i < kK ? row[k + i] : 0.0f;
  }
}
template <class S>
__device__ __forceinline__ void load_four(float* target, const S* row, int k, bool exists) {
  if (kK % 4 == 0 && exists && k < kK) {
    Pack<S, 4> four = load_pack<4>(row + k);
    store_pack<4>(target, Pack<float, 4>{{to_float(four.at[0]), to_float(four.at[1]), to_float(four.at[2]),
                                          to_float(four.at[3])}});
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) target[i] = exists && k + i < kK ? to_float(row[k + i]) : 0.0f;
  }
}

// A tile of `source` [.., DEPTH] with the elements from `k0` on; `find` says which row is the i-th, -1: none.
template <int ROWS, class S, class F>
__device__ __forceinline__ void load_tile(float* target, const S* source, int k0, F find) {
  constexpr int kFours = ROWS * kDepth / 4;
#pragma unroll
  for (int begin = 0; begin < kFours; begin += kThreads) {
    int i = begin + threadIdx.x;
    if (kFours % kThreads != 0 && i >= kFours) break;
    int row = i / (kDepth / 4), k = i % (kDepth / 4) * 4;
    int found = find(row);
    load_four(target + row * kPitch + k, source + int64(found >= 0 ? found : 0) * kK, k0 + k, found >= 0);
  }
}

__device__ __forceinline__ float add_four(float sum, float4 a, float4 b) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

extern "C" __global__ void __launch_bounds__(kThreads)
    matmul_fma(const X* x, const W* w, const Bias* bias, const Residual* residual, Y* y, int rows) {
  extern __shared__ __align__(128) float shared[];
  allow_next();
  int row0 = blockIdx.y * TILE_M, output0 = blockIdx.x * kTileOutputs;
  int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
  int thread_m = warp % WARPS_M * 4 + lane / 8, thread_n = warp / WARPS_M * 8 + lane % 8;
  auto load = [&](int step) {
    if (step < kSteps) {
      float* stage = shared + step % STAGES * kStageFloats;
      load_tile<TILE_M>(stage, x, step * kDepth, [&](int i) { return row0 + i < rows ? row0 + i : -1; });
      load_tile<TILE_N>(stage + TILE_M * kPitch, w, step * kDepth, [&](int i) {
        int part = i / kStrideN, output = output0 + (GATED ? part / 2 * kStrideN + i % kStrideN : i);
        if (output >= kOutputs) return -1;
        return GATED ? output + part % 2 * kOutputs : output;
      });
    }
    commit_copies();
  };
  wait_for_previous();
#pragma unroll
  for (int s = 0; s < STAGES - 1; ++s) load(s);

  float sums[kRows][kColumns] = {};
  for (int step = 0; step < kSteps; ++step) {
    wait_for_copies<STAGES - 2>();
    __syncthreads();
    load(step + STAGES - 1);
    const float* tile_x = shared + step % STAGES * kStageFloats + thread_m * kPitch;
    const float* tile_w = shared + step % STAGES * kStageFloats + (TILE_M + thread_n) * kPitch;
#pragma unroll 2
    for (int k = 0; k < kDepth; k += 4) {
      float4 a[kRows];
#pragma unroll
      for (int i = 0; i < kRows; ++i) a[i] = *reinterpret_cast<const float4*>(tile_x + i * kStrideM * kPitch + k);
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        float4 b = *reinterpret_cast<const float4*>(tile_w + j * kStrideN * kPitch + k);
#pragma unroll
        for (int i = 0; i < kRows; ++i) sums[i][j] = add_four(sums[i][j], a[i], b);
      }
    }
  }

#pragma unroll
  for (int i = 0; i < kRows; ++i)
#pragma unroll
    for (int j = 0; j < kColumns; j += kSumsEach) {
      int row = row0 + thread_m + i * kStrideM, output = output0 + thread_n + j / kSumsEach * kStrideN;
      if (row >= rows || output >= kOutputs) continue;
      int64 at = int64(row) * kOutputs + output;
      if constexpr (GATED)
        y[at] = from_float<Y>(gated_epilogue<FUNCTION>(sums[i][j], sums[i][j + 1], bias, output, kOutputs));
      else
        y[at] = from_float<Y>(epilogue<FUNCTION>(sums[i][j], bias, output, residual, at));
    }
}
