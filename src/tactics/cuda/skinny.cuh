// y = function(x · wᵀ + bias) + residual, or gated, for few rows of x and 16-bit weights: w streams past the tensor
// cores once. sm_90 and later.
//
// The weights are the M of the products, because there are many, and the rows of x are the N, because tiles of the
// tensor cores can be as narrow as 8 there. A tile of the result is TILE features x ROWS rows; a block computes several
// tiles one after the other, all blocks as many or one more. One thread keeps STAGES stages of shared memory filled,
// across the borders of tiles, with boxes of w and x, each SLABS slabs of 64 elements of k in the copy engine's swizzle
// of 128 bytes. The other warps multiply: WARPS_M of them share the features of a tile, WARPS_K the depth of a stage,
// and what these find is added in a fixed order.
//
// The first stages of w are under way before the kernel in front has ended; the kernel behind may start when a block
// has nothing left to ask for.
//
// A tile of gated ones has TILE / 2 rows of gate, then as many of up.
//
// The caller: DEPTH is a multiple of 64; maps of x and w as [64, rows, DEPTH / 64] with boxes of [64, ROWS, SLABS] and
// [64, TILE, SLABS], gated w as [64, outputs, 2, DEPTH / 64] with boxes of [64, TILE / 2, 2, SLABS], and the swizzle of
// 128 bytes; ROWS is 8 or a multiple of 16, TILE of 16 * WARPS_M, 2 * SLABS of
// WARPS_K; grid {blocks, ceil(rows / ROWS)}, (WARPS_M * WARPS_K + 1) * 32 threads and SHARED_BYTES of dynamic shared
// memory.
#include "device/epilogue.cuh"
#include "device/mma_sync.cuh"
#include "device/tma.cuh"

using W = W_TYPE;
using Y = Y_TYPE;
using Bias = BIAS_TYPE;
using Residual = RESIDUAL_TYPE;

constexpr int kN = FEATURES, kK = DEPTH;
constexpr int kWarps = WARPS_M * WARPS_K;     // that multiply
constexpr int kTilesM = TILE / 16 / WARPS_M;  // of one warp
constexpr int kTilesN = ROWS / 8;
constexpr int kStageBytes = (TILE + ROWS) * SLABS * 128;
constexpr int kSteps = (kK / 64 + SLABS - 1) / SLABS;
constexpr int kLastSlabs = kK / 64 - (kSteps - 1) * SLABS;
constexpr int kOutputs = GATED ? kN / 2 : kN, kTileOutputs = GATED ? TILE / 2 : TILE;
constexpr int kTiles = (kOutputs + kTileOutputs - 1) / kTileOutputs;
constexpr int kPitch = TILE + 4;  // of the sums of one row of x: no bank conflicts
constexpr int kSumFloats = ROWS * kPitch;
static_assert(TILE % (16 * WARPS_M) == 0 && 2 * SLABS % WARPS_K == 0);
static_assert(kK % 64 == 0 && (ROWS == 8 || ROWS % 16 == 0));
static_assert(1024 + STAGES * (kStageBytes + 16) + WARPS_K * kSumFloats * 4 <= SHARED_BYTES);

#if __CUDA_ARCH__ >= 900

struct Stages {
  uint8* data;
  Mbarrier *full, *empty;

  __device__ __forceinline__ uint8* w(int stage) const { return data + stage * kStageBytes; }
  __device__ __forceinline__ uint8* x(int stage) const { return w(stage) + TILE * SLABS * 128; }
};

// Stage and parity of the next step, the same at both ends.
struct Turn {
  int stage = 0, parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == STAGES) stage = 0, parity ^= 1;
  }
};

// --- loads: by one thread ------------------------------------------------------------------------------------------

struct Source {
  const TensorMap &x, &w;
  int first_tile;  // of this block

  // The weights of step i; announces those of x as well.
  __device__ __forceinline__ void ask_for_w(const Stages& stages, int stage, int i) const {
    Mbarrier* full = stages.full + stage;
    arrive_and_expect(full, kStageBytes);
    int output = (first_tile + i / kSteps) * kTileOutputs, slab = i % kSteps * SLABS;
    if constexpr (GATED)
      load_box(stages.w(stage), w, full, 0, output, 0, slab, kEvictFirst);
    else
      load_box(stages.w(stage), w, full, 0, output, slab, kEvictFirst);
  }
  __device__ __forceinline__ void ask_for_x(const Stages& stages, int stage, int i) const {
    load_box(stages.x(stage), x, stages.full + stage, 0, blockIdx.y * ROWS, i % kSteps * SLABS, kEvictLast);
  }
};

__device__ __forceinline__ void fill_stages(const Stages& stages, const Source& source, int steps) {
  int early = min(steps, STAGES);  // these need not wait for a free stage
  for (int i = 0; i < early; ++i) source.ask_for_w(stages, i, i);
  if (steps <= STAGES) allow_next();
  wait_for_previous();
  for (int i = 0; i < early; ++i) source.ask_for_x(stages, i, i);
  Turn turn;
  for (int i = STAGES; i < steps; ++i) {
    wait(stages.empty + turn.stage, turn.parity);
    source.ask_for_w(stages, turn.stage, i);
    source.ask_for_x(stages, turn.stage, i);
    if (i + 1 == steps) allow_next();
    turn.advance();
  }
}

// --- products: by the other warps ----------------------------------------------------------------------------------

struct Sums {
  float c[kTilesM][kTilesN][4];
};

// Where 16 bytes of a row of a slab lie.
__device__ __forceinline__ uint32 chunk_address(uint32 slab, int row, int chunk) {
  return slab + row * 128 + (chunk ^ (row & 7)) * 16;
}

// c += w · xᵀ over half of a slab of each, 32 elements of k, from the row `row` of w on.
__device__ __forceinline__ void multiply(Sums& sums, uint32 w, uint32 x, int row, int slab_half) {
  int lane = threadIdx.x & 31, chunk = slab_half * 4;
  uint32 a[2][kTilesM][4], b[2][(kTilesN + 1) / 2][4];
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int m = 0; m < kTilesM; ++m)
      load_matrices(a[half][m], chunk_address(w, row + m * 16 + (lane & 15), chunk + half * 2 + (lane >> 4)));
  if constexpr (kTilesN == 1) {  // both halves at once
    uint32 both[4];
    load_matrices(both, chunk_address(x, lane & 7, chunk + (lane >> 3)));
#pragma unroll
    for (int i = 0; i < 4; ++i) b[i / 2][0][i % 2] = both[i];
  } else {
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int n = 0; n < kTilesN / 2; ++n)
        load_matrices(b[half][n],
                      chunk_address(x, n * 16 + (lane & 7) + (lane >> 4) * 8, chunk + half * 2 + ((lane >> 3) & 1)));
  }
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int m = 0; m < kTilesM; ++m)
#pragma unroll
      for (int n = 0; n < kTilesN; ++n) {
        const uint32(&pairs)[4] = b[half][n / 2];
        multiply_add(W{}, sums.c[m][n], a[half][m], pairs[n % 2 * 2], pairs[n % 2 * 2 + 1]);
      }
}

__device__ __forceinline__ void put_sums(const Sums& sums, float* target, int warp_m) {
  int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
#pragma unroll
  for (int m = 0; m < kTilesM; ++m)
#pragma unroll
    for (int n = 0; n < kTilesN; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        int feature = (warp_m * kTilesM + m) * 16 + g + i / 2 * 8, row = n * 8 + 2 * t + i % 2;
        target[row * kPitch + feature] = sums.c[m][n][i];
      }
}

struct Output {
  const Bias* bias;
  const Residual* residual;
  Y* y;
  int first_row, rows;  // of this block
};

// Four features of one row, from what `value(i, place of the element in y)` makes of their sums.
template <class F>
__device__ __forceinline__ void put_outputs(const Output& out, int row, int feature, F value) {
  int64 at = int64(row) * kOutputs + feature;
  if constexpr (kOutputs % 4 == 0) {
    Pack<Y, 4> pack;
#pragma unroll
    for (int i = 0; i < 4; ++i) pack.at[i] = from_float<Y>(value(i, at + i));
    store_pack<4>(out.y + at, pack);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (feature + i < kOutputs) out.y[at + i] = from_float<Y>(value(i, at + i));
  }
}

struct Four {
  float v[4];
};
// What the warps along k have found for four neighbours, added up.
__device__ __forceinline__ Four add_parts(const float* sums) {
  Four total = {};
#pragma unroll
  for (int k = 0; k < WARPS_K; ++k) {
    float4 part = *reinterpret_cast<const float4*>(sums + k * kSumFloats);
    total.v[0] += part.x, total.v[1] += part.y, total.v[2] += part.z, total.v[3] += part.w;
  }
  return total;
}

__device__ __forceinline__ void finish_tile(const Output& out, const float* sums, int tile) {
  constexpr int kFours = kTileOutputs / 4;
  for (int i = threadIdx.x; i < out.rows * kFours; i += kWarps * 32) {
    int row = i / kFours, in_tile = i % kFours * 4, feature = tile * kTileOutputs + in_tile;
    if (feature >= kOutputs) continue;
    Four first = add_parts(sums + row * kPitch + in_tile);
    if constexpr (GATED) {
      Four up = add_parts(sums + row * kPitch + kTileOutputs + in_tile);
      put_outputs(out, out.first_row + row, feature, [&](int j, int64) {
        return gated_epilogue<FUNCTION>(first.v[j], up.v[j], out.bias, feature + j, kOutputs);
      });
    } else {
      put_outputs(out, out.first_row + row, feature, [&](int j, int64 at) {
        return epilogue<FUNCTION>(first.v[j], out.bias, feature + j, out.residual, at);
      });
    }
  }
}

__device__ __forceinline__ void warps_barrier() { asm volatile("bar.sync 1, %0;" ::"n"(kWarps * 32) : "memory"); }

__device__ __forceinline__ void multiply_tiles(const Stages& stages, const Output& out, float* sums, int tile,
                                               int end) {
  int warp = threadIdx.x / 32, warp_m = warp % WARPS_M, warp_k = warp / WARPS_M;
  Turn turn;
  for (; tile < end; ++tile) {
    Sums partial = {};
    for (int step = 0; step < kSteps; ++step) {
      uint32 w = shared_address(stages.w(turn.stage)), x = shared_address(stages.x(turn.stage));
      wait(stages.full + turn.stage, turn.parity);
#pragma unroll
      for (int u = 0; u < 2 * SLABS / WARPS_K; ++u) {
        int unit = u * WARPS_K + warp_k, slab = unit / 2;
        if (kLastSlabs == SLABS || step < kSteps - 1 || slab < kLastSlabs)
          multiply(partial, w + slab * TILE * 128, x + slab * ROWS * 128, warp_m * kTilesM * 16, unit % 2);
      }
      __syncwarp();
      if ((threadIdx.x & 31) == 0) arrive(stages.empty + turn.stage);
      turn.advance();
    }
    put_sums(partial, sums + warp_k * kSumFloats, warp_m);
    warps_barrier();
    finish_tile(out, sums, tile);
    warps_barrier();
  }
}

extern "C" __global__ void __launch_bounds__((kWarps + 1) * 32)
    skinny(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap w, const Bias* bias,
           const Residual* residual, Y* y, int rows) {
  extern __shared__ uint8 unaligned[];
  uint8* shared = unaligned + (1024 - shared_address(unaligned) % 1024) % 1024;
  float* sums = reinterpret_cast<float*>(shared + STAGES * kStageBytes);
  Mbarrier* barriers = reinterpret_cast<Mbarrier*>(sums + WARPS_K * kSumFloats);
  Stages stages = {shared, barriers, barriers + STAGES};
  int warp = threadIdx.x / 32;
  if (threadIdx.x == kWarps * 32) {
    prefetch_map(w);
    prefetch_map(x);
    for (int s = 0; s < STAGES; ++s) {
      init_barrier(stages.full + s, 1);
      init_barrier(stages.empty + s, kWarps);
    }
    publish_barriers();
  }
  __syncthreads();

  int tile = int(int64(kTiles) * blockIdx.x / gridDim.x), end = int(int64(kTiles) * (blockIdx.x + 1) / gridDim.x);
  int first_row = blockIdx.y * ROWS, block_rows = min(ROWS, rows - first_row);
  if (warp == kWarps) {
    if (threadIdx.x % 32 == 0) fill_stages(stages, {x, w, tile}, (end - tile) * kSteps);
  } else {
    wait_for_previous();
    multiply_tiles(stages, {bias, residual, y, first_row, block_rows}, sums, tile, end);
  }
}

#endif
