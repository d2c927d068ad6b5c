// Attention for every head size and dtype, in f32 arithmetic: y = softmax(mask(scale q k^T)) v over paged K and V.
//
// attention_decode takes sequences with one token (attention_parts.cuh): a warp takes tiles of 32 positions, one per
// lane for the scores, then one element of the result per lane. attention_chunk takes the others (attention_rows.cuh):
// a block brings tiles of 32 positions to shared memory, and every warp makes 8 rows.
//
// #defines: those of attention_parts.cuh and CHUNK_WARPS. Dynamic shared memory, in floats: of attention_decode
// DECODE_WARPS * PART_HEADS * max(HEAD, V_HEAD), per warp a multiple of 4; of attention_chunk
// 8 * CHUNK_WARPS * (HEAD + 32) + 32 * ((HEAD | 1) + V_HEAD).
#include "attention_parts.cuh"
#include "attention_rows.cuh"

namespace attention {

constexpr int kTile = 32;
constexpr int kWarpRows = 8, kRows = CHUNK_WARPS * kWarpRows;
constexpr int kElements = ceil_div(V_HEAD, 32);  // of a result, per lane

// The most elements of a vector that one access takes.
template <class T>
constexpr int pack_width(int size) {
  int width = 16 / sizeof(T);
  while (size % width != 0) width /= 2;
  return width;
}

__device__ __forceinline__ int page_of(const Step& step, int page_begin, int slot) {
  return step.page_list[page_begin + slot / PAGE];
}

// --- sequences with one token ----------------------------------------------------------------------------------------

// The running result of a warp.
struct Running {
  float sums[PART_HEADS][kElements] = {};
  float greatest[PART_HEADS], weight[PART_HEADS];  // weight: of this lane's positions

  __device__ __forceinline__ Running() {
#pragma unroll
    for (int h = 0; h < PART_HEADS; ++h) greatest[h] = minus_infinity(), weight[h] = 0;
  }

  // The exponents of this lane's position.
  __device__ __forceinline__ void score(float (&x)[PART_HEADS], const float* q, const KT* key, bool seen) {
    constexpr int kWidth = pack_width<KT>(HEAD);
#pragma unroll
    for (int h = 0; h < PART_HEADS; ++h) x[h] = 0;
    if (seen) {
#pragma unroll 4
      for (int d = 0; d < HEAD; d += kWidth) {
        Pack<KT, kWidth> pack = load_pack<kWidth>(key + d);
#pragma unroll
        for (int e = 0; e < kWidth; ++e)
#pragma unroll
          for (int h = 0; h < PART_HEADS; ++h) x[h] += q[h * HEAD + d + e] * to_float(pack.at[e]);
      }
    }
#pragma unroll
    for (int h = 0; h < PART_HEADS; ++h) x[h] = seen ? exponent_of(x[h]) : minus_infinity();
  }

  // Takes in positions [slot, slot + 32) of which the task has some.
  __device__ __forceinline__ void add(const Step& step, const Task& task, const float* q, const KT* k, const KT* v,
                                      int slot) {
    int lane = threadIdx.x & 31, at = slot + lane;
    bool seen = at >= task.first_slot && at < task.sequence.end_slot;
    int page = seen ? page_of(step, task.sequence.page_begin, at) : 0;
    float x[PART_HEADS];
    score(x, q, k + vector_begin(page, task.kv_head, at % PAGE, HEAD), seen);
#pragma unroll
    for (int h = 0; h < PART_HEADS; ++h) {
      float most = fmaxf(greatest[h], warp_max(x[h])), factor = exp2_fast(greatest[h] - most);
      x[h] = exp2_fast(x[h] - most);
      greatest[h] = most, weight[h] = weight[h] * factor + x[h];
#pragma unroll
      for (int j = 0; j < kElements; ++j) sums[h][j] *= factor;
    }
    int first = max(task.first_slot - slot, 0), last = min(task.sequence.end_slot - slot, 32);
#pragma unroll 2
    for (int i = first; i < last; ++i) {
      const KT* value = v + vector_begin(__shfl_sync(kAll, page, i), task.kv_head, (slot + i) % PAGE, V_HEAD);
      float p[PART_HEADS];
#pragma unroll
      for (int h = 0; h < PART_HEADS; ++h) p[h] = __shfl_sync(kAll, x[h], i);
#pragma unroll
      for (int j = 0; j < kElements; ++j) {
        if (j * 32 + lane >= V_HEAD) break;
        float element = to_float(value[j * 32 + lane]);
#pragma unroll
        for (int h = 0; h < PART_HEADS; ++h) sums[h][j] += p[h] * element;
      }
    }
  }

  // Leaves the sums [heads, V_HEAD] and the weights for others to add up.
  __device__ __forceinline__ void leave(float* part, float2* part_weights, int heads) {
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int h = 0; h < PART_HEADS; ++h) {
      float total = warp_sum(weight[h]);
      if (h >= heads) break;
      if (lane == 0) part_weights[h] = {greatest[h], total};
#pragma unroll
      for (int j = 0; j < kElements; ++j)
        if (int d = j * 32 + lane; d < V_HEAD) part[h * V_HEAD + d] = sums[h][j];
    }
  }
};

// --- sequences with several tokens -----------------------------------------------------------------------------------

template <int SIZE, int STRIDE>
__device__ __forceinline__ void load_tile(float* target, const KT* state, const Step& step, const Rows& rows, Span span,
                                          int slot) {
  constexpr int kWidth = pack_width<KT>(SIZE), kChunks = SIZE / kWidth;
  for (int index = threadIdx.x; index < kTile * kChunks; index += CHUNK_WARPS * 32) {
    int row = index / kChunks, d = index % kChunks * kWidth, at = slot + row;
    Pack<KT, kWidth> pack = {};
    if (at >= span.first_slot && at < span.end_slot) {
      int page = page_of(step, rows.sequence.page_begin, at);
      pack = load_pack<kWidth>(state + vector_begin(page, rows.kv_head, at % PAGE, SIZE) + d);
    }
#pragma unroll
    for (int e = 0; e < kWidth; ++e) target[row * STRIDE + d + e] = to_float(pack.at[e]);
  }
}

// Eight rows of a warp.
struct WarpRows {
  float sums[kWarpRows][kElements] = {};
  float greatest[kWarpRows], weight[kWarpRows];

  __device__ __forceinline__ WarpRows() {
#pragma unroll
    for (int r = 0; r < kWarpRows; ++r) greatest[r] = minus_infinity(), weight[r] = 0;
  }

  // `weights`: [kWarpRows][32] of shared memory for this warp alone.
  __device__ __forceinline__ void add(const Rows& rows, int row, const float* q, const float* k, const float* v,
                                      float* weights, int slot) {
    int lane = threadIdx.x & 31;
    float x[kWarpRows] = {};
#pragma unroll 8
    for (int d = 0; d < HEAD; ++d) {
      float key = k[lane * (HEAD | 1) + d];
#pragma unroll
      for (int r = 0; r < kWarpRows; ++r) x[r] += q[r * HEAD + d] * key;
    }
#pragma unroll
    for (int r = 0; r < kWarpRows; ++r) {
      int end = rows.end_of(rows.first + row + r), at = slot + lane;
      x[r] = at < end && at >= first_visible(end) ? exponent_of(x[r]) : minus_infinity();
      float most = fmaxf(greatest[r], warp_max(x[r])), base = most == minus_infinity() ? 0.0f : most;
      float factor = exp2_fast(greatest[r] - base);
      x[r] = exp2_fast(x[r] - base);
      greatest[r] = most, weight[r] = weight[r] * factor + x[r];
      weights[r * 32 + lane] = x[r];
#pragma unroll
      for (int j = 0; j < kElements; ++j) sums[r][j] *= factor;
    }
    __syncwarp();
#pragma unroll 2
    for (int i = 0; i < kTile; i += 4) {
      float4 p[kWarpRows];
#pragma unroll
      for (int r = 0; r < kWarpRows; ++r) p[r] = *reinterpret_cast<const float4*>(weights + r * 32 + i);
#pragma unroll
      for (int j = 0; j < kElements; ++j) {
        int d = j * 32 + lane;
        if (d >= V_HEAD) break;
        const float* value = v + i * V_HEAD + d;
#pragma unroll
        for (int r = 0; r < kWarpRows; ++r)
          sums[r][j] +=
              p[r].x * value[0] + p[r].y * value[V_HEAD] + p[r].z * value[2 * V_HEAD] + p[r].w * value[3 * V_HEAD];
      }
    }
    __syncwarp();
  }

  __device__ __forceinline__ void finish(const Rows& rows, int row, QT* y) {
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int r = 0; r < kWarpRows; ++r) {
      float total = warp_sum(weight[r]), factor = total > 0 ? 1.0f / total : 0.0f;
      if (row + r >= rows.count) continue;
      QT* target = y + rows.vector_of(rows.first + row + r, V_HEAD);
#pragma unroll
      for (int j = 0; j < kElements; ++j)
        if (int d = j * 32 + lane; d < V_HEAD) target[d] = from_float<QT>(sums[r][j] * factor);
    }
  }
};

}  // namespace attention

extern "C" __global__ void __launch_bounds__(DECODE_WARPS * 32, 2)
    attention_decode(const QT* q, const KT* k, const KT* v, const int* query_starts, const int* context_lengths,
                     const int* page_starts, const int* page_list, const int* context_starts, QT* y,
                     attention::PartSums* partial, int sequences) {
  using namespace attention;
  // Of each warp, q and later the sums.
  constexpr int kWarpFloats = PART_HEADS * (HEAD > V_HEAD ? HEAD : V_HEAD) + 3 & ~3;
  extern __shared__ __align__(16) float shared[];
  __shared__ float2 warp_weights[DECODE_WARPS][PART_HEADS];
  allow_next();
  wait_for_previous();
  Step step{query_starts, context_lengths, page_starts, page_list, context_starts, sequences};
  Task task;
  if (!find_task<kTile>(step, task)) return;

  int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  float* mine = shared + warp * kWarpFloats;
  for (int i = lane; i < PART_HEADS * HEAD; i += 32)
    mine[i] = i < task.heads * HEAD ? to_float(q[task.row * HEAD + i]) : 0.0f;
  __syncwarp();
  Running running;
  for (int tile = task.tile; tile < task.end_tile; ++tile) running.add(step, task, mine, k, v, tile * kTile);
  __syncwarp();
  running.leave(mine, warp_weights[warp], task.heads);
  combine_warps(reinterpret_cast<unsigned char*>(shared), kWarpFloats * 4, warp_weights, task, y, partial);
}

extern "C" __global__ void __launch_bounds__(CHUNK_WARPS * 32, 1)
    attention_chunk(const QT* q, const KT* k, const KT* v, const int* query_starts, const int* context_lengths,
                    const int* page_starts, const int* page_list, const int* context_starts, QT* y, int sequences) {
  using namespace attention;
  extern __shared__ __align__(16) float shared[];
  allow_next();
  Step step{query_starts, context_lengths, page_starts, page_list, context_starts, sequences};
  Rows rows = rows_of_block<kRows>(step);
  wait_for_previous();
  if (rows.count == 0) return;

  float *weights = shared, *q_tile = weights + kRows * 32, *v_tile = q_tile + kRows * HEAD;
  float* k_tile = v_tile + kTile * V_HEAD;
  int row = threadIdx.x / 32 * kWarpRows;
  for (int i = threadIdx.x; i < kRows * HEAD; i += CHUNK_WARPS * 32) {
    int r = i / HEAD;
    q_tile[i] = r < rows.count ? to_float(q[rows.vector_of(rows.first + r, HEAD) + i % HEAD]) : 0.0f;
  }
  Span span = span_of(rows);
  WarpRows mine;
  for (int slot = span.first_slot / kTile * kTile; slot < span.end_slot; slot += kTile) {
    __syncthreads();
    load_tile<HEAD, HEAD | 1>(k_tile, k, step, rows, span, slot);
    load_tile<V_HEAD, V_HEAD>(v_tile, v, step, rows, span, slot);
    __syncthreads();
    if (row < rows.count) mine.add(rows, row, q_tile + row * HEAD, k_tile, v_tile, weights + row * 32, slot);
  }
  mine.finish(rows, row, y);
}
