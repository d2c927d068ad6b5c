// The running result of a pair (attention_parts.cuh) that a warp makes with tensor cores from tiles of 16 positions in
// shared memory, for bf16 and f16 states.
//
// All query heads of a pair are columns of the products S^T = K Q^T and Y^T = V^T P^T (columns beyond the group are
// zeros), so that K and V are read once and weights stay in registers.
//
// #defines: those of attention_step.cuh and PART_HEADS, at most 16. HEAD and V_HEAD are multiples of 16. A tile takes
// kTileBytes: 16 rows of K and of V, each 16 bytes longer than the vector.
#pragma once

#include "attention_copy.cuh"

namespace attention {

constexpr int kColumns = ceil_div(PART_HEADS, 8);  // of products, in eights
constexpr int kKStride = row_bytes(HEAD), kVStride = row_bytes(V_HEAD);
constexpr int kTileBytes = kPiece * (kKStride + kVStride);

// What a warp knows of a pair: lane 4 g + t holds sums of heads 8 c + 2t and the next, of elements g, g + 8 ...
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
    bool whole = slot >= first_slot && slot + kPiece <= end_slot;
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
    uint32 v_row = tile + kPiece * kKStride + (lane % 8 + lane / 16 * 8) * kVStride + lane / 8 % 2 * 16;
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

  // Leaves the sums [heads, V_HEAD] and the weights for others to add up.
  __device__ __forceinline__ void leave(float* part, float2* part_weights, int heads) {
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
#pragma unroll
        for (int d = 4; d < 32; d *= 2) weight[c][e] += __shfl_xor_sync(kAll, weight[c][e], d);
        int head = c * 8 + lane % 4 * 2 + e;
        if (head >= heads) continue;
        if (lane < 4) part_weights[head] = {greatest[c][e] * kScoreScale, weight[c][e]};
#pragma unroll
        for (int i = 0; i < V_HEAD / 8; ++i) part[head * V_HEAD + i * 8 + lane / 4] = sums[c][i / 2][e + i % 2 * 2];
      }
    }
  }
};

}  // namespace attention
