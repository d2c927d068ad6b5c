// How a sequence with one token is shared out, and its results are added up again.
//
// A pair is a kv head with PART_HEADS of the query heads that share it. DECODE_SPLITS blocks make one pair of one
// sequence: their warps take equal runs of the tiles that the token sees, and need no other while they read. Then a
// block adds up the results of its warps, and those of the blocks are added up in the shared memory of a cluster
// (DECODE_CLUSTERED) or, through `partial`, by attention_combine.
//
// #defines beside those of attention_step.cuh: PART_HEADS, DECODE_SPLITS, DECODE_CLUSTERED (0 or 1), DECODE_WARPS.
// Grid: sequences * kPairs * DECODE_SPLITS blocks, which are clusters of
// DECODE_SPLITS if DECODE_CLUSTERED. `partial` holds kPairs * DECODE_SPLITS PartSums for as many
// sequences as can have one token, if they are needed.
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

// Where the parts of a pair begin: the one-token sequences in turn come with rising numbers and rising tokens, so the
// smaller of both is different for each, and less than the number of sequences and than that of tokens.
__device__ __forceinline__ int64 first_part(int sequence, int first_token, int pair) {
  return (int64(min(sequence, first_token)) * kPairs + pair) * DECODE_SPLITS;
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
// What the blocks of a cluster send to the one that finishes these sums: each finishes a slice of a pair's.
constexpr int kSlice = ceil_div(PART_HEADS * V_HEAD, kWidth* DECODE_SPLITS) * kWidth;
struct alignas(16) Inbox {
  float values[DECODE_SPLITS][kSlice];
  float2 weights[DECODE_SPLITS][PART_HEADS];
  Mbarrier arrived;  // counts the bytes: a barrier of the cluster would order no stores, or wait for all of the memory
};
__device__ __forceinline__ Inbox& own_inbox() {
  __shared__ Inbox inbox;
  return inbox;
}

// To p of the inbox of block `rank`.
__device__ __forceinline__ void send(float* p, uint32 rank, const Sums& sums) {
  const uint32 address = address_in(p, rank), barrier = address_in(&own_inbox().arrived, rank);
  if constexpr (kWidth == 4)
    store_in_cluster(address, barrier, {sums.at[0], sums.at[1], sums.at[2], sums.at[3]});
  else
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %2, [%1];" ::"r"(address),
                 "r"(barrier), "f"(sums.at[0])
                 : "memory");
}
__device__ __forceinline__ void send(float2* p, uint32 rank, float2 v) {
  const uint32 address = address_in(p, rank), barrier = address_in(&own_inbox().arrived, rank);
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%2, %3}, [%1];" ::"r"(address),
               "r"(barrier), "f"(v.x), "f"(v.y)
               : "memory");
}

// The sums that this block finishes.
struct Slice {
  int begin, end;
};
__device__ __forceinline__ Slice own_slice(int heads) {
  const int begin = int(cluster_rank()) * kSlice;
  return {begin, max(begin, min(begin + kSlice, heads * V_HEAD))};
}

// Every thread of a cluster: the others may send to this block after they have waited.
__device__ __forceinline__ void open_inbox(int heads) {
  if (threadIdx.x == 0) {
    Mbarrier* arrived = &own_inbox().arrived;
    const Slice slice = own_slice(heads);
    init_barrier(arrived, 1);
    publish_barriers();
    arrive_and_expect(arrived, DECODE_SPLITS * ((slice.end - slice.begin) * 4 + heads * 8));
  }
  __syncwarp();
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void wait_for_inboxes() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Finishes this block's slice when all of it is there. Nothing is under way to this block then: it may end.
__device__ __forceinline__ void finish_slice(QT* y, int heads) {
  Inbox& inbox = own_inbox();
  wait(&inbox.arrived, 0);
  auto values = [&](int i, int at) { return *reinterpret_cast<const Sums*>(inbox.values[i] + at % kSlice); };
  auto weights = [&](int i, int head) { return inbox.weights[i][head]; };
  const Slice slice = own_slice(heads);
  for (int at = slice.begin + int(threadIdx.x) * kWidth; at < slice.end; at += DECODE_WARPS * 32 * kWidth) {
    float2 total;
    Sums sums = add_up<DECODE_SPLITS>(at, values, weights, total);
    write_result(y + at, sums, total.y);
  }
}
#endif

// What a block has to do: the pair of a sequence, and this warp's share of its tiles of TILE slots.
struct Task {
  Sequence sequence;
  int kv_head, heads;  // heads: of the pair
  int first_slot;      // of what the token sees
  int tile, end_tile;
  int64 row;   // of the first head in a list of heads of all tokens
  int64 part;  // this block's in `partial`
};

// False for a sequence that has not one token.
template <int TILE>
__device__ __forceinline__ bool find_task(const Step& step, Task& task) {
  int pair = blockIdx.x / DECODE_SPLITS % kPairs, split = blockIdx.x % DECODE_SPLITS;
  int s = blockIdx.x / DECODE_SPLITS / kPairs;
  task.sequence = sequence_at(step, s);
  if (task.sequence.tokens != 1) return false;
  constexpr int kWorkers = DECODE_SPLITS * DECODE_WARPS;
  int worker = split * DECODE_WARPS + int(threadIdx.x >> 5), in_group = pair % kParts * PART_HEADS;
  task.kv_head = pair / kParts, task.heads = min(PART_HEADS, kGroup - in_group);
  task.first_slot = first_visible(task.sequence.end_slot);
  int first = task.first_slot / TILE, tiles = max(0, ceil_div(task.sequence.end_slot, TILE) - first);
  task.tile = first + int(int64(tiles) * worker / kWorkers);
  task.end_tile = first + int(int64(tiles) * (worker + 1) / kWorkers);
#if DECODE_CLUSTERED
  open_inbox(task.heads);
#endif
  task.row = int64(task.sequence.first_token) * HEADS + task.kv_head * kGroup + in_group;
  task.part = first_part(s, task.sequence.first_token, pair) + split;
  return true;
}

// Adds up what the block's warps have left: sums `stride` bytes from each other, and weights. All threads call this.
__device__ __forceinline__ void combine_warps(const unsigned char* warp_sums, int stride,
                                              const float2 (*warp_weights)[PART_HEADS], const Task& task, QT* y,
                                              PartSums* partial) {
#if DECODE_CLUSTERED
  Inbox& inbox = own_inbox();
  wait_for_inboxes();
#endif
  __syncthreads();
  auto values = [&](int i, int at) { return *reinterpret_cast<const Sums*>(warp_sums + i * stride + at * 4); };
  auto weights = [&](int i, int head) { return warp_weights[i][head]; };
  y += task.row * V_HEAD;
  for (int at = threadIdx.x * kWidth; at < task.heads * V_HEAD; at += DECODE_WARPS * 32 * kWidth) {
    float2 total;
    Sums sums = add_up<DECODE_WARPS>(at, values, weights, total);
    int head = at / V_HEAD;
    bool first = at % V_HEAD == 0;
#if DECODE_CLUSTERED
    uint32 mine = cluster_rank();
    send(inbox.values[mine] + at % kSlice, at / kSlice, sums);
    for (uint32 rank = 0; first && rank < DECODE_SPLITS; ++rank) send(inbox.weights[mine] + head, rank, total);
#else
    if constexpr (DECODE_SPLITS == 1) {
      write_result(y + at, sums, total.y);
    } else {
      *reinterpret_cast<Sums*>(partial[task.part].values + at) = sums;
      if (first) partial[task.part].weights[head] = total;
    }
#endif
  }
#if DECODE_CLUSTERED
  finish_slice(y, task.heads);
#endif
}

}  // namespace attention
