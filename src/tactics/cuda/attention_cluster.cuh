// Attention of sequences with one token on GPUs with clusters: y = softmax(scale q k^T) v over each sequence's pages,
// for bf16 and f16 states, in one launch.
//
// A cluster makes one pair of one sequence: a kv head, or a part of its query heads. Its warps take equal runs of the
// tiles of 16 positions and need no other while they read: each copies K and V into a ring of its own, DECODE_STAGES
// deep. Then the results of a block's warps, and those of the cluster's blocks, are added up in shared memory.
//
// #defines beside those of attention_tiles.cuh: DECODE_CLUSTER (blocks), DECODE_WARPS, DECODE_STAGES.
// Grid: sequences * kPairs * DECODE_CLUSTER blocks. Dynamic shared memory: DECODE_WARPS * DECODE_STAGES tiles.
#include "attention_tiles.cuh"
#include "device/mbarrier.cuh"

namespace attention {

constexpr int kRingBytes = DECODE_STAGES * kStageBytes;
static_assert(kRingBytes >= kPartHeads * V_HEAD * 4, "a warp leaves its result in its ring");

// Sums of a pair and, for each head, the largest exponent and the sum of weights.
struct PairSums {
  float values[kPartHeads * V_HEAD];
  float2 weights[kPartHeads];
};

// Four sums that start at `at`, added up over COUNT results; `values` and `weights` give those of the i-th.
template <int COUNT, class Values, class Weights>
__device__ __forceinline__ float4 add_up(int at, Values values, Weights weights, float2& total) {
  float2 weight[COUNT];
  float4 value[COUNT];
#pragma unroll
  for (int i = 0; i < COUNT; ++i) weight[i] = weights(i, at / V_HEAD), value[i] = values(i, at);
  float greatest = minus_infinity();
#pragma unroll
  for (int i = 0; i < COUNT; ++i) greatest = fmaxf(greatest, weight[i].x);
  float4 sum = {0, 0, 0, 0};
  total = {greatest, 0};
#pragma unroll
  for (int i = 0; i < COUNT; ++i) {
    float factor = weight[i].y > 0 ? exp2_fast(weight[i].x - greatest) : 0.0f;
    sum.x += factor * value[i].x, sum.y += factor * value[i].y;
    sum.z += factor * value[i].z, sum.w += factor * value[i].w;
    total.y += factor * weight[i].y;
  }
  return sum;
}

__device__ __forceinline__ float4 load_four_in(const float* p, uint32 rank) {
  float4 v;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(address_in(p, rank)));
  return v;
}
__device__ __forceinline__ float2 load_two_in(const float2* p, uint32 rank) {
  float2 v;
  asm volatile("ld.shared::cluster.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(address_in(p, rank)));
  return v;
}

__device__ __forceinline__ void write_four(QT* y, float4 sum, float weight) {
  float factor = weight > 0 ? 1.0f / weight : 0.0f;
  store_pack(y, Pack<QT, 4>{from_float<QT>(sum.x * factor), from_float<QT>(sum.y * factor),
                            from_float<QT>(sum.z * factor), from_float<QT>(sum.w * factor)});
}

// Adds up what the block's warps left, then what the cluster's blocks have, and writes `heads` rows.
__device__ __forceinline__ void combine(unsigned char* rings, const float2 (*warp_weights)[kPartHeads], QT* y,
                                        int heads) {
  __shared__ PairSums block_sums;
  __syncthreads();
  auto values = [&](int i, int at) { return *reinterpret_cast<const float4*>(rings + i * kRingBytes + at * 4); };
  auto weights = [&](int i, int head) { return warp_weights[i][head]; };
  for (int at = threadIdx.x * 4; at < heads * V_HEAD; at += DECODE_WARPS * 128) {
    float2 total;
    float4 sum = add_up<DECODE_WARPS>(at, values, weights, total);
    if constexpr (DECODE_CLUSTER == 1) {
      write_four(y + at, sum, total.y);
    } else {
      *reinterpret_cast<float4*>(block_sums.values + at) = sum;
      if (at % V_HEAD == 0) block_sums.weights[at / V_HEAD] = total;
    }
  }
  if constexpr (DECODE_CLUSTER > 1) {
    sync_cluster();
    auto block_values = [&](int i, int at) { return load_four_in(block_sums.values + at, i); };
    auto block_weights = [&](int i, int head) { return load_two_in(block_sums.weights + head, i); };
    int at = (cluster_rank() * DECODE_WARPS * 32 + threadIdx.x) * 4;
    for (; at < heads * V_HEAD; at += DECODE_CLUSTER * DECODE_WARPS * 128) {
      float2 total;
      float4 sum = add_up<DECODE_CLUSTER>(at, block_values, block_weights, total);
      write_four(y + at, sum, total.y);
    }
    sync_cluster();  // nobody ends while others read its shared memory
  }
}

}  // namespace attention

extern "C" __global__ void __launch_bounds__(DECODE_WARPS * 32)
    attention_decode(const QT* q, const KT* k, const KT* v, const int* query_starts, const int* context_lengths,
                     const int* page_starts, const int* page_list, const int* context_starts, QT* y, int sequences) {
  using namespace attention;
  extern __shared__ __align__(128) unsigned char rings[];
  __shared__ float2 warp_weights[DECODE_WARPS][kPartHeads];
  allow_next();
  wait_for_previous();
  Step step{query_starts, context_lengths, page_starts, page_list, context_starts, sequences};
  int pair = blockIdx.x / DECODE_CLUSTER % kPairs;
  Sequence sequence = sequence_at(step, blockIdx.x / DECODE_CLUSTER / kPairs);
  if (sequence.tokens != 1) return;

  int warp = threadIdx.x >> 5, worker = blockIdx.x % DECODE_CLUSTER * DECODE_WARPS + warp;
  int first_slot = first_visible(sequence.end_slot), first_tile = first_slot / kTile;
  int tiles = max(0, ceil_div(sequence.end_slot, kTile) - first_tile);
  constexpr int kWorkers = DECODE_CLUSTER * DECODE_WARPS;
  int tile = first_tile + tiles * worker / kWorkers, end_tile = first_tile + tiles * (worker + 1) / kWorkers;
  int in_group = pair % kParts * 8 * kColumns, heads = min(kPartHeads, kGroup - in_group);
  int64 row = int64(sequence.first_token) * HEADS + pair / kParts * kGroup + in_group;

  unsigned char* mine = rings + warp * kRingBytes;
  uint32 ring = shared_address(mine);
  TileCopier copier{k, v};
  copier.enter(step, sequence, pair / kParts, tile);
  State state;
  state.begin(q + row * HEAD, heads);
  int next = tile, free_stage = 0, stage = 0;
  auto copy_tile = [&] {
    if (next < end_tile) {
      copier.copy(ring + free_stage * kStageBytes, next);
      free_stage = free_stage + 1 == DECODE_STAGES ? 0 : free_stage + 1;
      copier.prepare(++next);
    }
    commit_copies();
  };
#pragma unroll
  for (int i = 0; i < DECODE_STAGES - 1; ++i) copy_tile();
  for (; tile < end_tile; ++tile) {
    wait_for_copies<DECODE_STAGES - 2>();
    __syncwarp();
    copy_tile();
    state.add(ring + stage * kStageBytes, tile * kTile, first_slot, sequence.end_slot);
    stage = stage + 1 == DECODE_STAGES ? 0 : stage + 1;
  }
  __syncwarp();
  state.finish(nullptr, reinterpret_cast<float*>(mine), warp_weights[warp], heads);
  combine(rings, warp_weights, y + row * V_HEAD, heads);
}
