// y = function(x · wᵀ + bias) + residual, or gated, for a few rows of x, on any GPU: weights go from memory to
// registers.
//
// BLOCK_WARPS warps of a block, and all blocks, take units of UNIT_ROWS rows of w in turn. A lane loads UNROLL times 16
// bytes of each row at once, one step ahead of the products, across the borders of units; the first step is under way
// before the kernel in front has ended.
//
// The caller: DEPTH * sizeof(W) is a multiple of 16; UNIT_ROWS is even when GATED; grid {blocks, ceil(rows / ROWS)},
// BLOCK_WARPS * 32 threads and SHARED_BYTES of dynamic shared memory.
#include "gemv_parts.cuh"

constexpr int kStep = 32 * UNROLL;
constexpr int kSteps = (kPieces + kStep - 1) / kStep;
constexpr int kPadded = kSteps * kStep;
constexpr int kUnits = (kN + UNIT_ROWS - 1) / UNIT_ROWS;
static_assert(ROWS * kPadded * 16 <= SHARED_BYTES);

// Rows of w are worked on in the order of the outputs, gate before up: which row it is at a place of that order.
__device__ __forceinline__ int row_at(int place) { return GATED ? place / 2 + place % 2 * kOutputs : place; }

struct Weights {
  uint4 v[UNROLL][UNIT_ROWS];

  __device__ __forceinline__ void load(const W* w, int unit, int step) {
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int u = 0; u < UNROLL; ++u)
#pragma unroll
      for (int r = 0; r < UNIT_ROWS; ++r) {
        int row = unit * UNIT_ROWS + r, piece = step * kStep + u * 32 + lane;
        bool exists = (kN % UNIT_ROWS == 0 || row < kN) && (kPieces % kStep == 0 || piece < kPieces);
        v[u][r] = exists ? load_weight(w + int64(row_at(row)) * kK + piece * kVector) : uint4{0, 0, 0, 0};
      }
  }
};

extern "C" __global__ void __launch_bounds__(BLOCK_WARPS * 32)
    gemv_direct(const X* x, const W* w, const Bias* bias, const Residual* residual, Y* y, int rows) {
  extern __shared__ __align__(128) uint4 staged[];
  int lane = threadIdx.x & 31, token0 = blockIdx.y * ROWS;
  int unit = threadIdx.x / 32 * gridDim.x + blockIdx.x, stride = gridDim.x * BLOCK_WARPS;
  allow_next();
  Weights next;
  if (unit < kUnits) next.load(w, unit, 0);
  wait_for_previous();
  stage_x<kPadded, BLOCK_WARPS * 32>(staged, x, token0, rows);
  __syncthreads();

  for (; unit < kUnits; unit += stride) {
    Products<W> products;
    for (int step = 0; step < kSteps; ++step) {
      Weights now = next;
      bool more = step + 1 < kSteps;
      if (more || unit + stride < kUnits) next.load(w, more ? unit : unit + stride, more ? step + 1 : 0);
#pragma unroll
      for (int u = 0; u < UNROLL; ++u)
#pragma unroll
        for (int token = 0; token < ROWS; ++token)
          products.add(token, now.v[u], staged[token * kPadded + step * kStep + u * 32 + lane]);
    }
#pragma unroll
    for (int token = 0; token < ROWS; ++token) {
      int64 first = int64(token0 + token) * kOutputs;
      if constexpr (GATED) {
        sum_pairs(products, token, [&](int r, float gate, float up) {
          int column = (unit * UNIT_ROWS + r) / 2;
          if (column >= kOutputs || token0 + token >= rows) return;
          y[first + column] = from_float<Y>(gated_epilogue<FUNCTION>(gate, up, bias, column, kOutputs));
        });
      } else {
        sum_shares(products, token, [&](int r, float sum) {
          int column = unit * UNIT_ROWS + r;
          if (column >= kN || token0 + token >= rows) return;
          y[first + column] = from_float<Y>(epilogue<FUNCTION>(sum, bias, column, residual, first + column));
        });
      }
    }
  }
}
