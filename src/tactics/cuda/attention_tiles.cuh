// What a warp needs to make decodes with tensor cores, from tiles of 16 positions: the copies of a tile into shared
// memory and the running result of a pair (a kv head, or a part of its query heads), for bf16 and f16 states.
//
// All query heads of a pair are columns of the products S^T = K Q^T and Y^T = V^T P^T (columns beyond the group are
// zeros), so that K and V are read once and weights stay in registers. Vectors are padded in shared memory: ldmatrix
// without conflicts.
//
// #defines: those of attention_step.cuh. HEAD and V_HEAD are multiples of 16. A tile takes kStageBytes: 16 rows of K
// and of V, each 16 bytes longer than the vector.
#pragma once

#include "attention_step.cuh"
#include "device/mma_sync.cuh"

namespace attention {

constexpr int kTile = 16;
constexpr int kColumns = kGroup > 8 && HEAD <= 128 && V_HEAD <= 128 ? 2 : 1;  // in eights
constexpr int kParts = ceil_div(kGroup, 8 * kColumns), kPairs = KV_HEADS * kParts;
constexpr int kPartHeads = kGroup < 8 * kColumns ? kGroup : 8 * kColumns;
// Positions that follow each other in memory, and how many such runs a tile has.
constexpr int kRun = greatest_divisor(PAGE, kTile), kRuns = kTile / kRun;
constexpr int kKStride = HEAD * 2 + 16, kVStride = V_HEAD * 2 + 16;
constexpr int kStageBytes = kTile * (kKStride + kVStride);

// Copies tiles of one sequence and kv head, in rising order.
struct TileCopier {
  const KT *k, *v;
  const int* pages = nullptr;  // of the sequence
  int kv_head = 0, first_slot = 0, end_slot = 0;
  // Lane l knows the page of run listed + l.
  int listed = 0, page = 0;

  __device__ __forceinline__ void enter(const Step& step, const Sequence& sequence, int head, int tile) {
    pages = step.page_list + sequence.page_begin, kv_head = head;
    first_slot = first_visible(sequence.end_slot), end_slot = sequence.end_slot;
    list_pages(tile);
  }
  // Has to come before the copies of `tile`, and is best done early.
  __device__ __forceinline__ void prepare(int tile) {
    if (tile * kRuns == listed + 32) list_pages(tile);
  }
  __device__ __forceinline__ void list_pages(int tile) {
    listed = tile * kRuns;
    int slot = (listed + int(threadIdx.x & 31)) * kRun;
    page = slot < end_slot ? pages[slot / PAGE] : 0;
  }

  __device__ __forceinline__ void copy(uint32 target, int tile) {
    copy_rows<HEAD>(target, k, tile);
    copy_rows<V_HEAD>(target + kTile * kKStride, v, tile);
  }
  template <int SIZE>
  __device__ __forceinline__ void copy_rows(uint32 target, const KT* state, int tile) {
    constexpr int kChunks = SIZE / 8, kStride = SIZE * 2 + 16;
    int lane = threadIdx.x & 31, slot = tile * kTile, run = tile * kRuns - listed;
    const KT* begin = state + vector_begin(__shfl_sync(kAll, page, run), kv_head, slot % PAGE, SIZE);
#pragma unroll
    for (int i = 0; i < kTile * kChunks / 32; ++i) {
      int index = i * 32 + lane, row = index / kChunks, chunk = index % kChunks;
      const KT* source = begin + index * 8;
      if constexpr (kRuns > 1) {
        int row_page = __shfl_sync(kAll, page, run + row / kRun);
        source = state + vector_begin(row_page, kv_head, (slot + row) % PAGE, SIZE) + chunk * 8;
      }
      bool wanted = unsigned(slot + row - first_slot) < unsigned(end_slot - first_slot);
      copy_async(target + row * kStride + chunk * 16, source, wanted);
    }
  }
};

// What a worker knows of a pair: lane 4 g + t holds sums of heads 8 c + 2t and the next, of elements g, g + 8 ...
struct State {
  uint32 q[kColumns][HEAD / 16][2];
  float sums[kColumns][V_HEAD / 16][4];
  float greatest[kColumns][2], weight[kColumns][2];

  __device__ void begin(const QT* q_row, int heads) {
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      int head = c * 8 + lane / 4;
      const QT* source = q_row + head * HEAD + lane % 4 * 2;
#pragma unroll
      for (int i = 0; i < HEAD / 8; ++i) q[c][i / 2][i % 2] = head < heads ? load_pair<KT>(source + i * 8) : 0;
#pragma unroll
      for (int i = 0; i < V_HEAD / 16; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[c][i][e] = 0;
#pragma unroll
      for (int e = 0; e < 2; ++e) greatest[c][e] = minus_infinity(), weight[c][e] = 0;
    }
  }

  // Takes in a tile, whose first row has slot `slot`.
  __device__ void add(uint32 tile, int slot, int first_slot, int end_slot) {
    int lane = threadIdx.x & 31;
    float scores[kColumns][2][4] = {};
    uint32 k_row = tile + lane % 16 * kKStride + lane / 16 * 16;
#pragma unroll
    for (int i = 0; i < HEAD / 16; ++i) {
      uint32 a[4];
      load_matrices(a, k_row + i * 32);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) multiply_add(KT{}, scores[c][i % 2], a, q[c][i][0], q[c][i][1]);
    }
    bool whole = slot >= first_slot && slot + kTile <= end_slot;
    uint32 weights[kColumns][2];
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      float x[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        x[e] = score_of(scores[c][0][e] + scores[c][1][e]);
        int at = slot + lane / 4 + e / 2 * 8;
        if (!whole && (at < first_slot || at >= end_slot)) x[e] = minus_infinity();
      }
      weigh(c, x);
      weights[c][0] = transposed(pair_from_float(KT{}, x[0], x[1]));
      weights[c][1] = transposed(pair_from_float(KT{}, x[2], x[3]));
    }
    uint32 v_row = tile + kTile * kKStride + (lane % 8 + lane / 16 * 8) * kVStride + lane / 8 % 2 * 16;
#pragma unroll
    for (int i = 0; i < V_HEAD / 16; ++i) {
      uint32 a[4];
      load_transposed(a, v_row + i * 32);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) multiply_add(KT{}, sums[c][i], a, weights[c][0], weights[c][1]);
    }
  }

  // Scores become weights relative to that of the greatest score so far.
  __device__ void weigh(int c, float (&x)[4]) {
    float most[2] = {fmaxf(x[0], x[2]), fmaxf(x[1], x[3])};
#pragma unroll
    for (int d = 4; d < 32; d *= 2)
#pragma unroll
      for (int e = 0; e < 2; ++e) most[e] = fmaxf(most[e], __shfl_xor_sync(kAll, most[e], d));
    if (__any_sync(kAll, most[0] > greatest[c][0] || most[1] > greatest[c][1])) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        most[e] = fmaxf(most[e], greatest[c][e]);
        float factor = exp2_fast((greatest[c][e] - most[e]) * kScoreScale);
        greatest[c][e] = most[e], weight[c][e] *= factor;
#pragma unroll
        for (int i = 0; i < V_HEAD / 16; ++i) sums[c][i][e] *= factor, sums[c][i][e + 2] *= factor;
      }
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      x[e] = exp2_fast((x[e] - greatest[c][e % 2]) * kScoreScale);
      weight[c][e % 2] += x[e];
    }
  }

  // Writes the results, or with `part` what the combining step needs.
  __device__ void finish(QT* y_row, float* part, float2* part_weights, int heads) {
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
#pragma unroll
        for (int d = 4; d < 32; d *= 2) weight[c][e] += __shfl_xor_sync(kAll, weight[c][e], d);
        int head = c * 8 + lane % 4 * 2 + e;
        if (head >= heads) continue;
        if (part && lane < 4) part_weights[head] = {greatest[c][e] * kScoreScale, weight[c][e]};
        float factor = 1.0f / weight[c][e];
#pragma unroll
        for (int i = 0; i < V_HEAD / 8; ++i) {
          int at = head * V_HEAD + i * 8 + lane / 4;
          float sum = sums[c][i / 2][e + i % 2 * 2];
          if (part)
            part[at] = sum;
          else
            y_row[at] = from_float<QT>(sum * factor);
        }
      }
    }
  }
};

}  // namespace attention
