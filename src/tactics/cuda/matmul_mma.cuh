// y = function(x · wᵀ + bias) + residual, or gated, for any number of rows and 16-bit weights, on the tensor cores of
// sm_80 and later.
//
// A block of WARPS_M x WARPS_N warps computes TILE_M rows x TILE_N features; a warp a part of that as products of 16 x
// 8 x 16. Tiles of 64 elements of k pass through STAGES stages of shared memory, in rows of 128 bytes whose 16-byte
// chunks are swapped by chunk ^ (row % 8), so that neither the copies nor ldmatrix meet a bank twice. Blocks that run
// at the same time share rows and features in groups of kGroup row tiles, for the second cache.
//
// x of another dtype than w is rounded to that of w on its way, and a DEPTH that 8 does not divide is read an element
// at a time: slower, but the same code from there on. Rows of gate and of up take turns in a tile of w: a thread then
// holds both sums of an output.
//
// The caller: grid {ceil(rows / TILE_M) * ceil(FEATURES / TILE_N)}, WARPS_M * WARPS_N * 32 threads and SHARED_BYTES of
// dynamic shared memory.
#include "device/epilogue.cuh"
#include "device/mma_sync.cuh"

using W = W_TYPE;
using X = X_TYPE;
using Y = Y_TYPE;
using Bias = BIAS_TYPE;
using Residual = RESIDUAL_TYPE;

constexpr int kN = FEATURES, kK = DEPTH, kDepth = 64, kGroup = 8;
constexpr int kOutputs = GATED ? kN / 2 : kN;
constexpr int kThreads = WARPS_M * WARPS_N * 32;
constexpr int kWarpM = TILE_M / WARPS_M, kWarpN = TILE_N / WARPS_N;
constexpr int kTilesM = kWarpM / 16, kTilesN = kWarpN / 8;
constexpr int kSteps = (kK + kDepth - 1) / kDepth, kBlocksN = (kN + TILE_N - 1) / TILE_N;
constexpr int kStageBytes = (TILE_M + TILE_N) * 128;
static_assert(STAGES * kStageBytes <= SHARED_BYTES);
static_assert(kWarpM % 16 == 0 && kWarpN % 16 == 0);

// --- loads ---------------------------------------------------------------------------------------------------------

template <class S>
constexpr bool kCopied = kSame<S, W> && kK % 8 == 0;

__device__ __forceinline__ uint32 swizzled(int row, int chunk) { return row * 128 + (chunk ^ (row & 7)) * 16; }

// Eight elements of a row from k on, zeros where there are none.
template <class S>
__device__ __forceinline__ uint4 load_chunk(const S* row, int k, bool exists) {
  float v[8];
  if (kK % 4 == 0 && exists && k + 8 <= kK) {
#pragma unroll
    for (int i = 0; i < 8; i += 4) {
      Pack<S, 4> four = load_pack<4>(row + k + i);
#pragma unroll
      for (int j = 0; j < 4; ++j) v[i + j] = to_float(four.at[j]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = exists && k + i < kK ? to_float(row[k + i]) : 0.0f;
  }
  return {pair_from_float(W{}, v[0], v[1]), pair_from_float(W{}, v[2], v[3]), pair_from_float(W{}, v[4], v[5]),
          pair_from_float(W{}, v[6], v[7])};
}

// A tile of `source` [.., DEPTH] with the elements from `k0` on; `find` says which row is the i-th, -1: none.
template <int ROWS, class S, class F>
__device__ __forceinline__ void load_tile(uint8* target, const S* source, int k0, F find) {
  constexpr int kChunks = ROWS * 8;
#pragma unroll
  for (int begin = 0; begin < kChunks; begin += kThreads) {
    int i = begin + threadIdx.x;
    if (kChunks % kThreads != 0 && i >= kChunks) break;
    int row = i / 8, k = k0 + i % 8 * 8;
    int found = find(row);
    bool exists = found >= 0;
    const S* from = source + int64(exists ? found : 0) * kK;
    uint8* to = target + swizzled(row, i % 8);
    if constexpr (kCopied<S>) {
      bool all = exists && k < kK;
      copy_async(shared_address(to), all ? from + k : from, all);
    } else {
      *reinterpret_cast<uint4*>(to) = load_chunk(from, k, exists);
    }
  }
}

// --- products ------------------------------------------------------------------------------------------------------

struct Fragments {
  uint32 a[kTilesM][4], b[kTilesN / 2][4];

  __device__ __forceinline__ void load(uint32 x, uint32 w, int step, int warp_m, int warp_n) {
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int m = 0; m < kTilesM; ++m)
      load_matrices(a[m], x + swizzled(warp_m * kWarpM + m * 16 + (lane & 15), step * 2 + (lane >> 4)));
#pragma unroll
    for (int n = 0; n < kTilesN / 2; ++n) {
      int row = warp_n * kWarpN + n * 16 + (lane & 7) + (lane >> 4) * 8;
      load_matrices(b[n], w + swizzled(row, step * 2 + ((lane >> 3) & 1)));
    }
  }
};

struct Sums {
  float c[kTilesM][kTilesN][4];

  __device__ __forceinline__ void add(const Fragments& f) {
#pragma unroll
    for (int m = 0; m < kTilesM; ++m)
#pragma unroll
      for (int n = 0; n < kTilesN; ++n)
        multiply_add(W{}, c[m][n], f.a[m], f.b[n / 2][n % 2 * 2], f.b[n / 2][n % 2 * 2 + 1]);
  }
};

struct Output {
  const Bias* bias;
  const Residual* residual;
  Y* y;
  int rows;
};

// Two neighbours of one row, or the gate and up of one output.
__device__ __forceinline__ void put_outputs(const Output& out, float first, float second, int row, int column) {
  if (row >= out.rows || column >= kN) return;
  if constexpr (GATED) {
    float v = gated_epilogue<FUNCTION>(first, second, out.bias, column / 2, kOutputs);
    out.y[int64(row) * kOutputs + column / 2] = from_float<Y>(v);
    return;
  }
  int64 at = int64(row) * kN + column;
  Y a = from_float<Y>(epilogue<FUNCTION>(first, out.bias, column, out.residual, at));
  if (column + 1 < kN) {
    Y b = from_float<Y>(epilogue<FUNCTION>(second, out.bias, column + 1, out.residual, at + 1));
    if constexpr (kN % 2 == 0) {
      store_pack<2>(out.y + at, Pack<Y, 2>{{a, b}});
      return;
    }
    out.y[at + 1] = b;
  }
  out.y[at] = a;
}

// Blocks in groups of kGroup row tiles, the features outside, the rows of a group inside.
__device__ __forceinline__ void place(int block, int blocks_m, int& tile_m, int& tile_n) {
  int group = block / (kGroup * kBlocksN), in_group = block % (kGroup * kBlocksN);
  int height = min(kGroup, blocks_m - group * kGroup);
  tile_m = group * kGroup + in_group % height;
  tile_n = in_group / height;
}

extern "C" __global__ void __launch_bounds__(kThreads)
    matmul_mma(const X* x, const W* w, const Bias* bias, const Residual* residual, Y* y, int rows) {
  extern __shared__ __align__(1024) uint8 shared[];
  allow_next();
  int tile_m, tile_n;
  place(blockIdx.x, (rows + TILE_M - 1) / TILE_M, tile_m, tile_n);
  int row0 = tile_m * TILE_M, column0 = tile_n * TILE_N;
  int warp = threadIdx.x / 32, warp_m = warp % WARPS_M, warp_n = warp / WARPS_M;
  auto load = [&](int step) {
    if (step < kSteps) {
      uint8* stage = shared + step % STAGES * kStageBytes;
      load_tile<TILE_M>(stage, x, step * kDepth, [&](int i) { return row0 + i < rows ? row0 + i : -1; });
      load_tile<TILE_N>(stage + TILE_M * 128, w, step * kDepth, [&](int i) {
        int place = column0 + i;
        if (place >= kN) return -1;
        return GATED ? place / 2 + place % 2 * kOutputs : place;
      });
    }
    commit_copies();
  };
  wait_for_previous();
#pragma unroll
  for (int s = 0; s < STAGES - 1; ++s) load(s);

  Sums sums = {};
  Fragments fragments[2];
  for (int step = 0; step < kSteps; ++step) {
    wait_for_copies<STAGES - 2>();
    __syncthreads();
    uint32 tile_x = shared_address(shared + step % STAGES * kStageBytes), tile_w = tile_x + TILE_M * 128;
    fragments[0].load(tile_x, tile_w, 0, warp_m, warp_n);
    load(step + STAGES - 1);
#pragma unroll
    for (int s = 0; s < kDepth / 16; ++s) {
      if (s + 1 < kDepth / 16) fragments[(s + 1) % 2].load(tile_x, tile_w, s + 1, warp_m, warp_n);
      sums.add(fragments[s % 2]);
    }
  }

  Output out = {bias, residual, y, rows};
  int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
#pragma unroll
  for (int m = 0; m < kTilesM; ++m)
#pragma unroll
    for (int n = 0; n < kTilesN; ++n) {
      const float(&c)[4] = sums.c[m][n];
      int row = row0 + warp_m * kWarpM + m * 16 + g, column = column0 + warp_n * kWarpN + n * 8 + 2 * t;
      put_outputs(out, c[0], c[1], row, column);
      put_outputs(out, c[2], c[3], row + 8, column);
    }
}
