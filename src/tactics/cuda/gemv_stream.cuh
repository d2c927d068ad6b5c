// y = function(x · wᵀ + bias) + residual, or gated, for a few rows of x: every weight is read once, at the speed of
// memory. sm_90 and later.
//
// A block owns a contiguous range of outputs, as many as every other block or one more. Its weights come in units of
// UNIT_ROWS rows x CHUNK elements; gated, a unit of gate and one of up take turns. One warp asks the copy engine for
// them; unit u goes to slot u % SLOTS of shared memory and is multiplied by group u % GROUPS of SPLIT warps, whose
// slots are always the same. What a warp finds for a row of a unit is a partial sum; when PARTIAL_ROWS rows are done,
// or all, these are added in a fixed order and go through the epilogue.
//
// The slots are filled before the kernel in front has ended. Until x is there no more than WINDOW units are under way
// at a time: that is nearly all of the memory's bandwidth, and behind a full ring of copies the few bytes that the
// kernel in front still reads, its writes, without which it does not end, and then x would wait for microseconds.
// Afterwards all slots are kept full. The kernel behind may start when there is nothing left to ask for.
//
// The caller: DEPTH * sizeof(W) is a multiple of 16; CHUNK is a multiple of SPLIT * 512 bytes or all of DEPTH;
// PARTIAL_ROWS is a multiple of UNIT_ROWS, twice if GATED; grid {blocks, ceil(rows / ROWS)}, (GROUPS * SPLIT + 1) * 32
// threads and SHARED_BYTES of dynamic shared memory.
#include "device/async_copy.cuh"
#include "gemv_parts.cuh"

constexpr int kWarps = GROUPS * SPLIT, kThreads = kWarps * 32;  // that multiply
constexpr int kStep = 32 * SPLIT;                               // pieces that a group takes at once
constexpr int kChunkPieces = CHUNK / kVector;
constexpr int kChunks = (kK + CHUNK - 1) / CHUNK;
constexpr int kLastPieces = kPieces - (kChunks - 1) * kChunkPieces;  // of the last chunk
constexpr int kPadded = (kChunks - 1) * kChunkPieces + (kLastPieces + kStep - 1) / kStep * kStep;
constexpr int kParts = kChunks * SPLIT;  // partial sums of a row
constexpr int kUnitBytes = UNIT_ROWS * CHUNK * int(sizeof(W));
static_assert(SLOTS * (kUnitBytes + 16) + 8 + ROWS * kPadded * 16 + ROWS * PARTIAL_ROWS * kParts * 4 <= SHARED_BYTES);
constexpr int kAskers = SLOTS < 32 ? (SLOTS + 3) / 4 : 8;  // lanes that ask for units at the same time
static_assert(SLOTS % GROUPS == 0 && 1 <= WINDOW && WINDOW <= SLOTS && PARTIAL_ROWS % (UNIT_ROWS * kRowsEach) == 0);

#if __CUDA_ARCH__ >= 900

// The units of one block, in the order of its rows, the chunks of a row after each other.
struct Units {
  const W* w;
  int first_output, outputs, count;

  __device__ Units(const W* w_, int first, int outputs_) : w(w_), first_output(first), outputs(outputs_) {
    count = (outputs + UNIT_ROWS - 1) / UNIT_ROWS * kRowsEach * kChunks;
  }
  // Of a unit's rows, the first in the order of the block's outputs.
  __device__ __forceinline__ int place(int unit) const { return unit / (kChunks * kRowsEach) * UNIT_ROWS; }
  __device__ __forceinline__ const W* at(int unit, int row) const {
    int half = GATED ? unit / kChunks % 2 : 0;
    return w + int64(half * kOutputs + first_output + place(unit) + row) * kK + unit % kChunks * CHUNK;
  }
  __device__ __forceinline__ int rows_of(int unit) const { return min(UNIT_ROWS, outputs - place(unit)); }
  __device__ __forceinline__ uint32 row_bytes(int unit) const {
    return (unit % kChunks == kChunks - 1 ? kLastPieces : kChunkPieces) * 16;
  }
};

struct Slots {
  uint8* data;
  Mbarrier *full, *empty, *x_is_there;
};

// A slot and the parity of its current use, in the order of the units that some thread meets.
struct Turn {
  int slot, parity = 0;
  __device__ __forceinline__ void advance(int units) {
    if ((slot += units) >= SLOTS) slot -= SLOTS, parity ^= 1;
  }
};

__device__ __forceinline__ void ask_for(const Units& units, int unit, const Slots& slots, int slot) {
  int rows = units.rows_of(unit);
  uint32 bytes = units.row_bytes(unit);
  uint8* target = slots.data + slot * kUnitBytes;
  arrive_and_expect(slots.full + slot, bytes * rows);
  if constexpr (kChunks == 1) {
    copy_bytes<true>(target, units.at(unit, 0), bytes * rows, slots.full + slot);
  } else {
    for (int r = 0; r < rows; ++r)
      copy_bytes<true>(target + r * (CHUNK * int(sizeof(W))), units.at(unit, r), bytes, slots.full + slot);
  }
}

// Asks for units in order, no more than WINDOW ahead of what has landed, until x is there, all slots are in use or
// nothing is left. Returns how many units were asked for.
__device__ __forceinline__ int fill_paced(const Units& units, const Slots& slots) {
  int unit = 0, most = min(units.count, SLOTS);
  for (; unit < most; ++unit) {
    while (unit >= WINDOW && !test_phase(slots.full + unit - WINDOW, 0))
      if (test_phase(slots.x_is_there, 0)) return unit;
    ask_for(units, unit, slots, unit);
  }
  return unit;
}

// By the lanes of one warp: one alone would need longer to ask for a unit than the memory to bring it.
__device__ __forceinline__ void fill_slots(const Units& units, const Slots& slots) {
  int lane = threadIdx.x % 32, begin = 0;
  if (lane == 0) begin = fill_paced(units, slots);
  begin = __shfl_sync(0xffffffffu, begin, 0);
  if (lane < kAskers) {
    for (int unit = begin + lane; unit < units.count; unit += kAskers) {
      int slot = unit % SLOTS, use = unit / SLOTS;
      if (use > 0) wait(slots.empty + slot, (use - 1) & 1);
      ask_for(units, unit, slots, slot);
    }
  }
  __syncwarp();
  if (lane == 0) allow_next();
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

__device__ __forceinline__ void warps_barrier() { asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory"); }

struct Output {
  const Bias* bias;
  const Residual* residual;
  Y* y;
  int first_token, rows;
};

// The epilogue of `count` outputs from `first` on.
__device__ __forceinline__ void finish_outputs(int first, int count, const float* partial, const Output& out) {
  for (int i = threadIdx.x; i < count * ROWS; i += kThreads) {
    int token = ROWS == 1 ? 0 : i / count, output = ROWS == 1 ? i : i % count;
    if (out.first_token + token >= out.rows) break;
    float sums[kRowsEach] = {};
#pragma unroll
    for (int half = 0; half < kRowsEach; ++half) {
      int row = (output / UNIT_ROWS * kRowsEach + half) * UNIT_ROWS + output % UNIT_ROWS;
#pragma unroll
      for (int p = 0; p < kParts; ++p) sums[half] += partial[(token * PARTIAL_ROWS + row) * kParts + p];
    }
    int64 at = int64(out.first_token + token) * kOutputs + first + output;
    if constexpr (GATED)
      out.y[at] = from_float<Y>(gated_epilogue<FUNCTION>(sums[0], sums[1], out.bias, first + output, kOutputs));
    else
      out.y[at] = from_float<Y>(epilogue<FUNCTION>(sums[0], out.bias, first + output, out.residual, at));
  }
}

// The part of a block that multiplies: all of its units, and the epilogue of its rows.
__device__ __forceinline__ void multiply_units(const Units& units, const Slots& slots, const uint4* x, float* partial,
                                               const Output& out) {
  int warp = threadIdx.x / 32, unit = warp / SPLIT, part = warp % SPLIT;
  Turn turn = {unit};
  constexpr int kOutputsAtOnce = PARTIAL_ROWS / kRowsEach;
  for (int done = 0; done < units.outputs; done += kOutputsAtOnce) {
    int end = min(units.count, (done + kOutputsAtOnce) / UNIT_ROWS * kRowsEach * kChunks);
    for (; unit < end; unit += GROUPS) {
      wait(slots.full + turn.slot, turn.parity);
      Products<W> products;
      int chunk = unit % kChunks;
      const uint8* slot = slots.data + turn.slot * kUnitBytes;
      if (kLastPieces == kChunkPieces || chunk < kChunks - 1)
        multiply<kChunkPieces>(slot, x + chunk * kChunkPieces, part, products);
      else
        multiply<kLastPieces>(slot, x + chunk * kChunkPieces, part, products);
      __syncwarp();
      if ((threadIdx.x & 31) == 0) arrive(slots.empty + turn.slot);
      turn.advance(GROUPS);
      int local = unit / kChunks * UNIT_ROWS - done * kRowsEach;
#pragma unroll
      for (int token = 0; token < ROWS; ++token)
        sum_shares(products, token, [&](int r, float sum) {
          partial[(token * PARTIAL_ROWS + local + r) * kParts + chunk * SPLIT + part] = sum;
        });
    }
    warps_barrier();
    finish_outputs(units.first_output + done, min(kOutputsAtOnce, units.outputs - done), partial, out);
    warps_barrier();
  }
}

extern "C" __global__ void __launch_bounds__(kThreads + 32)
    gemv_stream(const X* x, const W* w, const Bias* bias, const Residual* residual, Y* y, int rows) {
  extern __shared__ __align__(128) uint8 shared[];
  uint4* staged = reinterpret_cast<uint4*>(shared + SLOTS * kUnitBytes);
  float* partial = reinterpret_cast<float*>(staged + ROWS * kPadded);
  Mbarrier* barriers = reinterpret_cast<Mbarrier*>(partial + ROWS * PARTIAL_ROWS * kParts);
  Slots slots = {shared, barriers, barriers + SLOTS, barriers + 2 * SLOTS};
  int first = int(int64(kOutputs) * blockIdx.x / gridDim.x), last = int(int64(kOutputs) * (blockIdx.x + 1) / gridDim.x);
  Units units(w, first, last - first);
  if (threadIdx.x == kThreads) {
    for (int s = 0; s < SLOTS; ++s) {
      init_barrier(slots.full + s, 1);
      init_barrier(slots.empty + s, SPLIT);
    }
    init_barrier(slots.x_is_there, 1);
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x >= kThreads) {
    fill_slots(units, slots);
  } else {
    int first_token = blockIdx.y * ROWS;
    wait_for_previous();
    stage_x<kPadded, kThreads>(staged, x, first_token, rows);
    warps_barrier();
    if (threadIdx.x == 0) arrive(slots.x_is_there);
    multiply_units(units, slots, staged, partial, {bias, residual, y, first_token, rows});
  }
}

#endif
