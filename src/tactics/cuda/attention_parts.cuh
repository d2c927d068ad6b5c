// How a sequence with one token is shared out, and its results are added up again.
//
// A pair is a kv head with PART_HEADS of the query heads that share it. DECODE_SPLITS blocks make one pair of one
// sequence: their warps take equal runs of the tiles that the token sees, and need no other while they read. Then a
// block adds up the results of its warps, and those of the blocks are added up in the shared memory of a cluster
// (DECODE_CLUSTERED) or, through `partial`, by attention_combine.
//
// #defines beside those of attention_step.cuh: PART_HEADS, DECODE_SPLITS, DECODE_CLUSTERED (0 or 1), DECODE_WARPS.
// Grid: sequences * kPairs * DECODE_SPLITS blocks, which are clusters of
// DECODE_SPLITS if DECODE_CLUSTERED. `partial` holds a PartSums for every block if they are several and not clustered.
#pragma once

#include "attention_step.cuh"
#if DECODE_CLUSTERED
#include "device/mbarrier.cuh"
#endif

namespace attention {

constexpr int kParts = ceil_div(kGroup, PART_HEADS), kPairs = KV_HEADS * kParts;
constexpr int kWidth = V_HEAD % 4 == 0 ? 4 : 1;  // sums that a thread adds up at a time

// Sums of a pair and, for each head, the greatest exponent and the sum of weights.
struct alignas(16) PartSums {
  float values[PART_HEADS * V_HEAD];
  float2 weights[PART_HEADS];
};

// What a block has to do: the pair of a sequence, and this warp's share of its tiles of TILE slots.
struct Task {
  Sequence sequence;
  int kv_head, heads;  // heads: of the pair
  int first_slot;      // of what the token sees
  int tile, end_tile;
  int64 row;  // of the first head in a list of heads of all tokens
};

// False for a sequence that has not one token.
template <int TILE>
__device__ __forceinline__ bool find_task(const Step& step, Task& task) {
  int pair = blockIdx.x / DECODE_SPLITS % kPairs, split = blockIdx.x % DECODE_SPLITS;
  task.sequence = sequence_at(step, blockIdx.x / DECODE_SPLITS / kPairs);
  if (task.sequence.tokens != 1) return false;
  constexpr int kWorkers = DECODE_SPLITS * DECODE_WARPS;
  int worker = split * DECODE_WARPS + int(threadIdx.x >> 5), in_group = pair % kParts * PART_HEADS;
  task.kv_head = pair / kParts, task.heads = min(PART_HEADS, kGroup - in_group);
  task.first_slot = first_visible(task.sequence.end_slot);
  int first = task.first_slot / TILE, tiles = max(0, ceil_div(task.sequence.end_slot, TILE) - first);
  task.tile = first + int(int64(tiles) * worker / kWorkers);
  task.end_tile = first + int(int64(tiles) * (worker + 1) / kWorkers);
  task.row = int64(task.sequence.first_token) * HEADS + task.kv_head * kGroup + in_group;
  return true;
}

using Sums = Pack<float, kWidth>;

// The sums from `at` on, added up over COUNT results; values(i, at) and weights(i, head) give those of the i-th.
template <int COUNT, class Values, class Weights>
__device__ __forceinline__ Sums add_up(int at, Values values, Weights weights, float2& total) {
  constexpr int kAtOnce = COUNT < 8 ? COUNT : 8;
  total = {minus_infinity(), 0};
#pragma unroll 8
  for (int i = 0; i < COUNT; ++i) total.x = fmaxf(total.x, weights(i, at / V_HEAD).x);
  Sums sums = {};
#pragma unroll kAtOnce
  for (int i = 0; i < COUNT; ++i) {
    float2 weight = weights(i, at / V_HEAD);
    Sums more = values(i, at);
    float factor = weight.y > 0 ? exp2_fast(weight.x - total.x) : 0.0f;
    total.y += factor * weight.y;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) sums.at[e] += factor * more.at[e];
  }
  return sums;
}

__device__ __forceinline__ void write_result(QT* y, const Sums& sums, float weight) {
  float factor = weight > 0 ? 1.0f / weight : 0.0f;
  Pack<QT, kWidth> result;
#pragma unroll
  for (int e = 0; e < kWidth; ++e) result.at[e] = from_float<QT>(sums.at[e] * factor);
  store_pack(y, result);
}

#if DECODE_CLUSTERED
__device__ __forceinline__ Sums load_in(const float* p, uint32 rank) {
  Sums sums;
  if constexpr (kWidth == 4)
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(sums.at[0]), "=f"(sums.at[1]), "=f"(sums.at[2]), "=f"(sums.at[3])
                 : "r"(address_in(p, rank)));
  else
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(sums.at[0]) : "r"(address_in(p, rank)));
  return sums;
}
__device__ __forceinline__ float2 load_in(const float2* p, uint32 rank) {
  float2 v;
  asm volatile("ld.shared::cluster.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(address_in(p, rank)));
  return v;
}

// Adds up what the blocks of a cluster have.
__device__ __forceinline__ void combine_cluster(const PartSums& mine, QT* y, int heads) {
  sync_cluster();
  auto values = [&](int i, int at) { return load_in(mine.values + at, i); };
  auto weights = [&](int i, int head) { return load_in(mine.weights + head, i); };
  int at = int(cluster_rank() * DECODE_WARPS * 32 + threadIdx.x) * kWidth;
  for (; at < heads * V_HEAD; at += DECODE_SPLITS * DECODE_WARPS * 32 * kWidth) {
    float2 total;
    Sums sums = add_up<DECODE_SPLITS>(at, values, weights, total);
    write_result(y + at, sums, total.y);
  }
  sync_cluster();  // nobody ends while others read its shared memory
}
#endif

// Adds up what the block's warps have left: sums `stride` bytes from each other, and weights. All threads call this.
__device__ __forceinline__ void combine_warps(const unsigned char* warp_sums, int stride,
                                              const float2 (*warp_weights)[PART_HEADS], const Task& task, QT* y,
                                              PartSums* partial) {
  __shared__ PartSums block_sums;
  __syncthreads();
  auto values = [&](int i, int at) { return *reinterpret_cast<const Sums*>(warp_sums + i * stride + at * 4); };
  auto weights = [&](int i, int head) { return warp_weights[i][head]; };
  PartSums& target = DECODE_CLUSTERED ? block_sums : partial[blockIdx.x];
  for (int at = threadIdx.x * kWidth; at < task.heads * V_HEAD; at += DECODE_WARPS * 32 * kWidth) {
    float2 total;
    Sums sums = add_up<DECODE_WARPS>(at, values, weights, total);
    if constexpr (DECODE_SPLITS == 1) {
      write_result(y + task.row * V_HEAD + at, sums, total.y);
    } else {
      *reinterpret_cast<Sums*>(target.values + at) = sums;
      if (at % V_HEAD == 0) target.weights[at / V_HEAD] = total;
    }
  }
#if DECODE_CLUSTERED
  combine_cluster(block_sums, y + task.row * V_HEAD, task.heads);
#endif
}

}  // namespace attention
