// The last step of decodes: adds up what the workers of attention_split.cuh left of pairs that they shared, and writes
// zeros for tokens without any context. A block makes one head of one sequence; its warps take parts in turn.
//
// #defines beside those of attention_step.cuh: TILE_SLOTS, PARTS (pairs per kv head), PART_HEADS.
#include "attention_split.cuh"

namespace attention {

constexpr int kWarps = 8;
constexpr int kPairs = KV_HEADS * PARTS;
constexpr int kWidth = V_HEAD % 4 == 0 ? 4 : 1;  // sums that a lane takes at a time
constexpr int kSteps = ceil_div(V_HEAD, 32 * kWidth);

// The parts of one head.
struct Parts {
  int first, count;    // workers
  bool begins_inside;  // the first worker's part is not that of its first tile
  int row;             // of the head in a part

  __device__ int64 row_of(int i) const { return (int64(first + i) * 2 + (i == 0 && begins_inside)) * PART_HEADS + row; }
};

__device__ __forceinline__ Parts parts_of(const Step& step, int s, int head, int workers) {
  int before = 0;
  for (int i = threadIdx.x & 31; i < s; i += 32) before += decode_tiles<TILE_SLOTS>(step, i);
  before = __reduce_add_sync(kAll, before);
  int per_worker = ceil_div(total_tiles<TILE_SLOTS>(step) * kPairs, workers), tiles = decode_tiles<TILE_SLOTS>(step, s);
  int in_group = head % kGroup, pair = head / kGroup * PARTS + in_group / PART_HEADS;
  int begin = before * kPairs + pair * tiles, first = begin / per_worker;
  return {first, (begin + tiles - 1) / per_worker - first + 1, begin % per_worker != 0, in_group % PART_HEADS};
}

}  // namespace attention

// `workers` as attention_decode was launched with.
extern "C" __global__ void __launch_bounds__(256)
    attention_combine(const float* partial, const float2* partial_weights, const int* query_starts,
                      const int* context_lengths, const int* page_starts, const int* page_list,
                      const int* context_starts, QT* y, int sequences, int workers) {
  using namespace attention;
  __shared__ float shared[kWarps][V_HEAD + 1];
  allow_next();
  // The launch in front lets this one begin only when the lists of the step have been written.
  Step step{query_starts, context_lengths, page_starts, page_list, context_starts, sequences};
  int s = blockIdx.x, head = blockIdx.y, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  Sequence sequence = sequence_at(step, s);
  Parts parts{};
  if (sequence.tokens == 1 && sequence.end_slot > 0) parts = parts_of(step, s, head, workers);
  wait_for_previous();
  if (sequence.tokens != 1) return;
  QT* out = y + (int64(sequence.first_token) * HEADS + head) * V_HEAD;
  if (sequence.end_slot <= 0) {
    for (int d = threadIdx.x; d < V_HEAD; d += kWarps * 32) out[d] = from_float<QT>(0.0f);
    return;
  }
  if (parts.count == 1) return;

  float greatest = minus_infinity();
  for (int i = lane; i < parts.count; i += 32) greatest = fmaxf(greatest, partial_weights[parts.row_of(i)].x);
  greatest = warp_max(greatest);
  float sums[kSteps][kWidth] = {}, weight = 0;
#pragma unroll 4
  for (int i = warp; i < parts.count; i += kWarps) {
    int64 row = parts.row_of(i);
    float2 part = partial_weights[row];
    float factor = exp2_fast(part.x - greatest);
    weight += factor * part.y;
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
      int d = (j * 32 + lane) * kWidth;
      if (d >= V_HEAD) break;
      Pack<float, kWidth> values = load_pack<kWidth>(partial + row * V_HEAD + d);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) sums[j][e] += factor * values.at[e];
    }
  }
#pragma unroll
  for (int j = 0; j < kSteps; ++j)
#pragma unroll
    for (int e = 0; e < kWidth; ++e)
      if (int d = (j * 32 + lane) * kWidth + e; d < V_HEAD) shared[warp][d] = sums[j][e];
  if (lane == 0) shared[warp][V_HEAD] = weight;
  __syncthreads();
  for (int d = threadIdx.x; d < V_HEAD; d += kWarps * 32) {
    float sum = 0, total = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += shared[w][d], total += shared[w][V_HEAD];
    out[d] = from_float<QT>(sum / total);
  }
}
