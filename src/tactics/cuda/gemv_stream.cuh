// y = function(x · wᵀ + bias) + residual for a few rows of x: every weight is read once, at the speed of memory. sm_90
// and later.
//
// A block owns a contiguous range of rows of w, as many as every other block or one more. Its weights come in units of
// UNIT_ROWS rows x CHUNK elements. GROUPS groups of SPLIT warps take the units in turn; each group has SLOTS slots of
// shared memory of its own, which the copy engine fills ahead of it, so no group ever waits for another and the loads
// of the next units are under way while this one is multiplied. What a warp finds for a row of a unit is a partial sum;
// when PARTIAL_ROWS rows are done, or all, these are added in a fixed order and go through the epilogue.
//
// Before the kernel in front has ended the slots are filled. The kernel behind may start when a group has nothing left
// to ask for: its loads then follow these without a gap.
//
// The caller: DEPTH * sizeof(W) is a multiple of 16; CHUNK is a multiple of SPLIT * 512 bytes or all of DEPTH;
// PARTIAL_ROWS is a multiple of UNIT_ROWS; grid {blocks, ceil(rows / ROWS)}, GROUPS * SPLIT * 32 threads and
// SHARED_BYTES of dynamic shared memory.
#include "device/async_copy.cuh"
#include "gemv_parts.cuh"

constexpr int kThreads = GROUPS * SPLIT * 32;
constexpr int kStep = 32 * SPLIT;  // pieces that a group takes at once
constexpr int kChunkPieces = CHUNK / kVector;
constexpr int kChunks = (kK + CHUNK - 1) / CHUNK;
constexpr int kLastPieces = kPieces - (kChunks - 1) * kChunkPieces;  // of the last chunk
constexpr int kPadded = (kChunks - 1) * kChunkPieces + (kLastPieces + kStep - 1) / kStep * kStep;
constexpr int kParts = kChunks * SPLIT;  // partial sums of a row
constexpr int kUnitBytes = UNIT_ROWS * CHUNK * int(sizeof(W));
constexpr int kSlots = GROUPS * SLOTS;
static_assert(kSlots * (kUnitBytes + 8) + ROWS * kPadded * 16 + ROWS * PARTIAL_ROWS * kParts * 4 <= SHARED_BYTES);

#if __CUDA_ARCH__ >= 900

// The units of one block, in the order of its rows, the chunks of a row after each other.
struct Units {
  const W* w;
  int first_row, rows, count;

  __device__ __forceinline__ const W* at(int unit, int row) const {
    return w + int64(first_row + unit / kChunks * UNIT_ROWS + row) * kK + unit % kChunks * CHUNK;
  }
  __device__ __forceinline__ int rows_of(int unit) const { return min(UNIT_ROWS, rows - unit / kChunks * UNIT_ROWS); }
  __device__ __forceinline__ uint32 row_bytes(int unit) const {
    return (unit % kChunks == kChunks - 1 ? kLastPieces : kChunkPieces) * 16;
  }
};

// By all lanes of one warp.
__device__ __forceinline__ void ask_for(const Units& units, int unit, uint8* slot, Mbarrier* barrier) {
  int lane = threadIdx.x & 31, rows = units.rows_of(unit);
  uint32 bytes = units.row_bytes(unit);
  if (lane == 0) arrive_and_expect(barrier, bytes * rows);
  if constexpr (kChunks == 1) {
    if (lane == 0) copy_bytes<true>(slot, units.at(unit, 0), bytes * rows, barrier);
  } else {
    if (lane < rows) copy_bytes<true>(slot + lane * (CHUNK * int(sizeof(W))), units.at(unit, lane), bytes, barrier);
  }
}
template <int PIECES>
__device__ __forceinline__ void multiply(const uint8* slot, const uint4* x, int part, Products<W>& products) {
  int lane = threadIdx.x & 31;
#pragma unroll
  for (int begin = 0; begin < PIECES; begin += kStep) {
    int piece = begin + part * 32 + lane;
    bool exists = begin + kStep <= PIECES || piece < PIECES;
    uint4 w[UNIT_ROWS];
#pragma unroll
    for (int r = 0; r < UNIT_ROWS; ++r)
      w[r] = exists ? reinterpret_cast<const uint4*>(slot + r * CHUNK * int(sizeof(W)))[piece] : uint4{0, 0, 0, 0};
#pragma unroll
    for (int token = 0; token < ROWS; ++token) products.add(token, w, x[token * kPadded + piece]);
  }
}

__device__ __forceinline__ void group_barrier(int group) {
  if constexpr (SPLIT == 1) {
    __syncwarp();
  } else {
    asm volatile("bar.sync %0, %1;" ::"r"(group + 1), "n"(SPLIT * 32) : "memory");
  }
}

extern "C" __global__ void __launch_bounds__(kThreads)
    gemv_stream(const X* x, const W* w, const Bias* bias, const Residual* residual, Y* y, int rows) {
  extern __shared__ __align__(128) uint8 shared[];
  uint4* staged = reinterpret_cast<uint4*>(shared + kSlots * kUnitBytes);
  float* partial = reinterpret_cast<float*>(staged + ROWS * kPadded);
  Mbarrier* filled = reinterpret_cast<Mbarrier*>(partial + ROWS * PARTIAL_ROWS * kParts);

  int first = int(int64(kN) * blockIdx.x / gridDim.x), last = int(int64(kN) * (blockIdx.x + 1) / gridDim.x);
  Units units = {w, first, last - first, (last - first + UNIT_ROWS - 1) / UNIT_ROWS * kChunks};
  int warp = threadIdx.x / 32, group = warp / SPLIT, part = warp % SPLIT, token0 = blockIdx.y * ROWS;
  uint8* ring = shared + group * SLOTS * kUnitBytes;
  Mbarrier* full = filled + group * SLOTS;
  bool asks = part == 0;

  if (asks) {
    if ((threadIdx.x & 31) < SLOTS) init_barrier(full + (threadIdx.x & 31), 1);
    publish_barriers();
    __syncwarp();
    for (int s = 0; s < SLOTS; ++s)
      if (int unit = group + s * GROUPS; unit < units.count) ask_for(units, unit, ring + s * kUnitBytes, full + s);
    if (group + kSlots >= units.count) allow_next();
  }
  wait_for_previous();
  stage_x<kPadded, kThreads>(staged, x, token0, rows);
  __syncthreads();

  int slot = 0, parity = 0, unit = group;
  for (int done = 0; done < units.rows; done += PARTIAL_ROWS) {
    int end = min(units.count, (done + PARTIAL_ROWS) / UNIT_ROWS * kChunks);
    for (; unit < end; unit += GROUPS) {
      wait(full + slot, parity);
      Products<W> products;
      int chunk = unit % kChunks;
      const uint4* chunk_x = staged + chunk * kChunkPieces;
      if (kLastPieces == kChunkPieces || chunk < kChunks - 1)
        multiply<kChunkPieces>(ring + slot * kUnitBytes, chunk_x, part, products);
      else
        multiply<kLastPieces>(ring + slot * kUnitBytes, chunk_x, part, products);
      group_barrier(group);
      if (int next = unit + kSlots; asks && next < units.count) {
        ask_for(units, next, ring + slot * kUnitBytes, full + slot);
        if (next + GROUPS >= units.count) allow_next();
      }
      if (++slot == SLOTS) slot = 0, parity ^= 1;
      int local = unit / kChunks * UNIT_ROWS - done;
#pragma unroll
      for (int token = 0; token < ROWS; ++token)
        sum_shares(products, token, [&](int r, float sum) {
          partial[((token * PARTIAL_ROWS) + local + r) * kParts + chunk * SPLIT + part] = sum;
        });
    }
    __syncthreads();
    int count = min(PARTIAL_ROWS, units.rows - done);
    for (int i = threadIdx.x; i < count * ROWS; i += kThreads) {
      int token = ROWS == 1 ? 0 : i / count, row = ROWS == 1 ? i : i % count, column = first + done + row;
      if (token0 + token >= rows) break;
      float sum = 0;
#pragma unroll
      for (int p = 0; p < kParts; ++p) sum += partial[(token * PARTIAL_ROWS + row) * kParts + p];
      int64 at = int64(token0 + token) * kN + column;
      y[at] = from_float<Y>(epilogue<FUNCTION>(sum, bias, column, residual, at));
    }
    __syncthreads();
  }
}

#endif
