// How the sequences with several tokens are cut for a block. Rows are the query heads that share a kv head, token by
// token: row r is head r % kGroup of token r / kGroup, so that also a short chunk fills the rows of a product. A block
// makes up to ROWS of them; blocks that find none left end at once. The lists of the step are read before the kernels
// in front have ended: they must have been written before the first kernel of the step began.
//
// Grid: (ceil(tokens * kGroup / ROWS) + sequences) * KV_HEADS blocks suffice. A step with no more tokens than sequences
// must hold no sequence with several: it need not be launched.
#pragma once

#include "attention_step.cuh"

namespace attention {

struct Rows {
  Sequence sequence;
  int kv_head;
  int first, count;  // of the sequence's rows; count 0: there is nothing to do

  __device__ int token_of(int row) const { return row / kGroup; }
  // Behind the last slot that a row sees.
  __device__ int end_of(int row) const { return sequence.end_slot - sequence.tokens + row / kGroup + 1; }
  // Where row `row` begins in a packed list of vectors with `size` elements per head.
  __device__ int64 vector_of(int row, int size) const {
    int64 token = sequence.first_token + row / kGroup;
    return (token * HEADS + kv_head * kGroup + row % kGroup) * size;
  }
};

__device__ __forceinline__ int inclusive_sum(int x) {
  int lane = threadIdx.x & 31;
#pragma unroll
  for (int d = 1; d < 32; d *= 2) {
    int other = __shfl_up_sync(kAll, x, d);
    if (lane >= d) x += other;
  }
  return x;
}

// The rows of a block; called by whole warps. The last rows of a sequence, which see most, come first.
template <int ROWS>
__device__ __forceinline__ Rows rows_of_block(const Step& step) {
  int index = blockIdx.x / KV_HEADS, before = 0;
  Rows rows{{}, int(blockIdx.x % KV_HEADS), 0, 0};
  for (int base = 0; base < step.sequences; base += 32) {
    int s = base + (threadIdx.x & 31), tokens = 0;
    if (s < step.sequences) tokens = step.query_starts[s + 1] - step.query_starts[s];
    int tiles = tokens > 1 ? ceil_div(tokens * kGroup, ROWS) : 0, sum = before + inclusive_sum(tiles);
    uint32 behind = __ballot_sync(kAll, sum > index);
    if (behind) {
      int lane = __ffs(behind) - 1;
      rows.sequence = sequence_at(step, base + lane);
      rows.first = (__shfl_sync(kAll, sum, lane) - 1 - index) * ROWS;
      rows.count = min(ROWS, rows.sequence.tokens * kGroup - rows.first);
      break;
    }
    before = __shfl_sync(kAll, sum, 31);
  }
  return rows;
}

// What a block has to read: slots [first_slot, end_slot), in tiles that begin at multiples of their size.
struct Span {
  int first_slot, end_slot;
};
__device__ __forceinline__ Span span_of(const Rows& rows) {
  return {first_visible(rows.end_of(rows.first)), max(0, rows.end_of(rows.first + rows.count - 1))};
}

// The running softmax of the two rows that a thread holds of a product's sums: columns 2t and the next of every eight.
struct RowWeights {
  float greatest[2] = {minus_infinity(), minus_infinity()};  // scores
  float sum[2] = {0, 0};                                     // of this thread's columns only

  // Makes weights of scores [N / 8][2 rows][2 columns]; factor: what older sums have to be multiplied by.
  template <int N>
  __device__ __forceinline__ void weigh(float (&x)[N], float (&factor)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float most = greatest[r];
#pragma unroll
      for (int i = 0; i < N; i += 4) most = fmaxf(most, fmaxf(x[i + 2 * r], x[i + 2 * r + 1]));
      most = fmaxf(most, __shfl_xor_sync(kAll, most, 1));
      most = fmaxf(most, __shfl_xor_sync(kAll, most, 2));
      // A row that has seen nothing yet keeps weights of zero.
      float base = most == minus_infinity() ? 0.0f : -most * kScoreScale;
      factor[r] = exp2_fast(fmaf(greatest[r], kScoreScale, base));
      greatest[r] = most;
      sum[r] *= factor[r];
#pragma unroll
      for (int i = 0; i < N; i += 4)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& weight = x[i + 2 * r + e];
          weight = exp2_fast(fmaf(weight, kScoreScale, base));
          sum[r] += weight;
        }
    }
  }
  // What the sums have to be multiplied by at the end; 0 for a row that saw nothing.
  __device__ __forceinline__ void finish(float (&factor)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      sum[r] += __shfl_xor_sync(kAll, sum[r], 1);
      sum[r] += __shfl_xor_sync(kAll, sum[r], 2);
      factor[r] = sum[r] > 0 ? 1.0f / sum[r] : 0.0f;
    }
  }
};

}  // namespace attention
