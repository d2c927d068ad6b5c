// y = function(x · wᵀ + bias) + residual for few rows of x and 16-bit weights: w streams past the tensor cores once.
// sm_90 and later.
//
// The weights are the M of the products, because there are many, and the rows of x are the N, because tiles of the tensor cores
// can be as narrow as 8 there. A block computes TILE features for ROWS rows of x. One warp keeps STAGES stages of shared
// memory filled with [TILE, STAGE_DEPTH] of w and [ROWS, STAGE_DEPTH] of x, in slabs of 64 elements of k with the copy engine's swizzle of 128 bytes;
// the others multiply: WARPS_M of them share the features, WARPS_K the depth of a stage. When TILE is so large that there
// are too few tiles for all multiprocessors, CLUSTER blocks share the depth of a tile, and each adds up a part of it
// through their shared memory. Without clusters a block goes through several tiles without a pause in its loads.
//
// The first stages of w are under way before the kernel in front has ended; the kernel behind may start when only LATE
// stages of the block's last tile are left to ask for.
//
// The caller: DEPTH is a multiple of 8; maps of x and w with boxes of [64, ROWS] and [64, TILE] or, if 64 divides DEPTH, of a third dimension of
// its slabs, of STAGE_DEPTH / 64 in a box; ROWS is 8 or a multiple of 16, TILE
// of 16 * WARPS_M, STAGE_DEPTH of 64 and of 32 * WARPS_K; grid {CLUSTER * (tiles or fewer), ceil(rows / ROWS)}, with exactly one block
// a tile and a part if CLUSTER > 1; (WARPS_M * WARPS_K + 1) * 32 threads, kSharedBytes of dynamic shared memory.
#include "device/async_copy.cuh"
#include "device/epilogue.cuh"
#include "device/mma.cuh"

using W = W_TYPE;
using Y = Y_TYPE;
using Bias = BIAS_TYPE;
using Residual = RESIDUAL_TYPE;

constexpr int kN = FEATURES, kK = DEPTH;
constexpr int kWarps = WARPS_M * WARPS_K;                // that multiply
constexpr int kTilesM = TILE / 16 / WARPS_M;             // of one warp
constexpr int kTilesN = ROWS / 8;
constexpr int kSlabs = STAGE_DEPTH / 64;
constexpr int kSlabW = TILE * 128, kSlabX = ROWS * 128;  // bytes
constexpr int kStageBytes = kSlabs * (kSlabW + kSlabX);
constexpr int kSteps = (kK + STAGE_DEPTH - 1) / STAGE_DEPTH;
constexpr int kTiles = (kN + TILE - 1) / TILE;
constexpr int kPitch = TILE + 4;                         // of sums of one row of x: no bank conflicts
constexpr int kSumFloats = ROWS * kPitch;
constexpr int kSharedBytes = 1024 + STAGES * kStageBytes + WARPS_K * kSumFloats * 4 + 2 * STAGES * 8;
static_assert(TILE % (16 * WARPS_M) == 0 && STAGE_DEPTH % (32 * WARPS_K) == 0 && (ROWS == 8 || ROWS % 16 == 0));

#if __CUDA_ARCH__ >= 900

struct Stages {
  uint32 data, full, empty;  // addresses in shared memory

  __device__ __forceinline__ uint32 w(int stage, int slab) const { return data + stage * kStageBytes + slab * kSlabW; }
  __device__ __forceinline__ uint32 x(int stage, int slab) const {
    return data + stage * kStageBytes + kSlabs * kSlabW + slab * kSlabX;
  }
};

// Stage and parity of the next step, in step at both ends.
struct Turn {
  int stage = 0, parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == STAGES) stage = 0, parity ^= 1;
  }
};

// What this block does: tiles first, first + stride, …, of each the steps begin … end - 1.
struct Share {
  int first, stride, begin, end;
};

// A stage's slabs of w or x. Where slabs divide the depth, the map has them as a dimension and one copy brings all.
template <bool ONCE, int SLAB_BYTES>
__device__ __forceinline__ void ask_for(uint32 target, const TensorMap* map, int row, int step, uint32 full) {
  if constexpr (kK % 64 == 0) {
    copy_slabs<ONCE>(target, map, row, step * kSlabs, full);
  } else {
#pragma unroll
    for (int s = 0; s < kSlabs; ++s)
      copy_box<ONCE>(target + s * SLAB_BYTES, map, step * STAGE_DEPTH + s * 64, row, full);
  }
}
__device__ __forceinline__ void ask_for_w(const Stages& stages, const TensorMap* map, int stage, int tile, int step) {
  uint32 full = stages.full + stage * 8;
  barrier_expect(full, kStageBytes);
  ask_for<true, kSlabW>(stages.w(stage, 0), map, tile * TILE, step, full);
}
__device__ __forceinline__ void ask_for_x(const Stages& stages, const TensorMap* map, int stage, int step) {
  ask_for<false, kSlabX>(stages.x(stage, 0), map, blockIdx.y * ROWS, step, stages.full + stage * 8);
}

// The loads of this block, by one thread.
__device__ __forceinline__ void fill_stages(const Stages& stages, const TensorMap* x, const TensorMap* w,
                                            const Share& share) {
  int steps = share.end - share.begin;
  int total = share.first < kTiles ? ((kTiles - 1 - share.first) / share.stride + 1) * steps : 0;
  int early = min(total, STAGES);  // these need not wait for a free stage
  auto tile_of = [&](int i) { return share.first + i / steps * share.stride; };
  auto step_of = [&](int i) { return share.begin + i % steps; };
  for (int i = 0; i < early; ++i) ask_for_w(stages, w, i, tile_of(i), step_of(i));
  if (total <= STAGES + LATE) allow_next();
  wait_for_previous();
  for (int i = 0; i < early; ++i) ask_for_x(stages, x, i, step_of(i));
  Turn turn;
  for (int i = STAGES; i < total; ++i) {
    barrier_wait(stages.empty + turn.stage * 8, turn.parity);
    ask_for_w(stages, w, turn.stage, tile_of(i), step_of(i));
    ask_for_x(stages, x, turn.stage, step_of(i));
    if (i + 1 + LATE >= total) allow_next();
    turn.advance();
  }
}

struct Sums {
  float c[kTilesM][kTilesN][4];
};

// c += w · xᵀ over 32 elements of k, at `slab_k` (0 or 1) of a slab.
__device__ __forceinline__ void multiply(Sums& sums, uint32 w, uint32 x, int slab_k, int warp_m) {
  int lane = threadIdx.x & 31;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int chunk = slab_k * 4 + half * 2;
    uint32 a[kTilesM][4], b[(kTilesN + 1) / 2][4];
#pragma unroll
    for (int m = 0; m < kTilesM; ++m) {
      int row = (warp_m * kTilesM + m) * 16 + (lane & 15);
      load_matrices(a[m], w + row * 128 + ((chunk + (lane >> 4)) ^ (row & 7)) * 16);
    }
    if constexpr (kTilesN == 1) {  // both halves at once; the second time the compiler finds them loaded
      int row = lane & 7;
      load_matrices(b[0], x + row * 128 + ((slab_k * 4 + (lane >> 3)) ^ row) * 16);
#pragma unroll
      for (int m = 0; m < kTilesM; ++m)
        mma(W{}, sums.c[m][0], a[m][0], a[m][1], a[m][2], a[m][3], b[0][half * 2], b[0][half * 2 + 1]);
    } else {
#pragma unroll
      for (int n = 0; n < kTilesN / 2; ++n) {
        int row = n * 16 + (lane & 7) + (lane >> 4) * 8;
        load_matrices(b[n], x + row * 128 + ((chunk + ((lane >> 3) & 1)) ^ (row & 7)) * 16);
      }
#pragma unroll
      for (int m = 0; m < kTilesM; ++m)
#pragma unroll
        for (int n = 0; n < kTilesN; ++n)
          mma(W{}, sums.c[m][n], a[m][0], a[m][1], a[m][2], a[m][3], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
    }
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
  int rows;
};

// Four features of one row, from their sums.
__device__ __forceinline__ void put_outputs(const Output& out, float4 sum, int row, int feature) {
  int64 at = int64(row) * kN + feature;
  float v[4] = {sum.x, sum.y, sum.z, sum.w};
  if constexpr (kN % 4 == 0) {
    Pack<Y, 4> pack;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      pack.at[i] = from_float<Y>(epilogue<FUNCTION>(v[i], out.bias, feature + i, out.residual, at + i));
    store_pack<4>(out.y + at, pack);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (feature + i < kN)
        out.y[at + i] = from_float<Y>(epilogue<FUNCTION>(v[i], out.bias, feature + i, out.residual, at + i));
  }
}

// Adds what the warps along k, and the blocks of the cluster, have found, in a fixed order; every block of the cluster
// does a part of the tile. By `threads` threads.
__device__ __forceinline__ void finish_tile(const Output& out, const float* sums, int tile, uint32 rank, int threads) {
  constexpr int kFours = TILE / 4;
  int row0 = blockIdx.y * ROWS, rows = min(ROWS, out.rows - row0);
  for (int i = rank * threads + threadIdx.x; i < rows * kFours; i += CLUSTER * threads) {
    int row = i / kFours, feature = i % kFours * 4;
    if (tile * TILE + feature >= kN) continue;
    float4 total = {0, 0, 0, 0};
    const float* local = sums + row * kPitch + feature;
#pragma unroll
    for (int c = 0; c < CLUSTER; ++c)
#pragma unroll
      for (int k = 0; k < WARPS_K; ++k) {
        const float* p = local + k * kSumFloats;
        float4 v;
        if constexpr (CLUSTER == 1)
          v = *reinterpret_cast<const float4*>(p);
        else
          v = load_cluster(cluster_address(shared_address(p), c));
        total.x += v.x, total.y += v.y, total.z += v.z, total.w += v.w;
      }
    put_outputs(out, total, row0 + row, tile * TILE + feature);
  }
}

extern "C" __global__ void __launch_bounds__((kWarps + 1) * 32)
    skinny(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap w, const Bias* bias,
           const Residual* residual, Y* y, int rows) {
  extern __shared__ uint8 unaligned[];
  uint8* shared = unaligned + (1024 - shared_address(unaligned) % 1024) % 1024;
  float* sums = reinterpret_cast<float*>(shared + STAGES * kStageBytes);
  uint32 barriers = shared_address(sums + WARPS_K * kSumFloats);
  Stages stages = {shared_address(shared), barriers, barriers + STAGES * 8};
  int warp = threadIdx.x / 32;
  uint32 rank = CLUSTER > 1 ? cluster_rank() : 0;
  Share share = {int(blockIdx.x / CLUSTER), int(gridDim.x / CLUSTER), int(kSteps * rank / CLUSTER),
                 int(kSteps * (rank + 1) / CLUSTER)};
  if (threadIdx.x == kWarps * 32) {
    prefetch_map(&w);
    prefetch_map(&x);
    for (int s = 0; s < STAGES; ++s) {
      barrier_init(stages.full + s * 8, 1);
      barrier_init(stages.empty + s * 8, kWarps);
    }
    barrier_init_done();
  }
  __syncthreads();

  if (warp == kWarps) {
    if ((threadIdx.x & 31) == 0) fill_stages(stages, &x, &w, share);
    __syncwarp();
  } else {
    Output out = {bias, residual, y, rows};
    int warp_m = warp % WARPS_M, warp_k = warp / WARPS_M;
    Turn turn;
    wait_for_previous();
    for (int tile = share.first; tile < kTiles; tile += share.stride) {
      Sums partial = {};
      for (int step = share.begin; step < share.end; ++step) {
        barrier_wait(stages.full + turn.stage * 8, turn.parity);
#pragma unroll
        for (int u = 0; u < STAGE_DEPTH / 32 / WARPS_K; ++u) {
          int unit = u * WARPS_K + warp_k;
          multiply(partial, stages.w(turn.stage, unit / 2), stages.x(turn.stage, unit / 2), unit % 2, warp_m);
        }
        __syncwarp();
        if ((threadIdx.x & 31) == 0) barrier_arrive(stages.empty + turn.stage * 8);
        turn.advance();
      }
      put_sums(partial, sums + warp_k * kSumFloats, warp_m);
      if constexpr (CLUSTER == 1) {
        asm volatile("bar.sync 1, %0;" ::"n"(kWarps * 32) : "memory");
        finish_tile(out, sums, tile, 0, kWarps * 32);
        asm volatile("bar.sync 1, %0;" ::"n"(kWarps * 32) : "memory");
      }
    }
  }
  if constexpr (CLUSTER > 1) {
    cluster_barrier();
    if (warp < kWarps) finish_tile({bias, residual, y, rows}, sums, share.first, rank, kWarps * 32);
    cluster_barrier();
  }
}

#endif
