// A mixture of experts for few tokens: every weight of a chosen expert is read once, none of another.
//
//   gate_up   inner[pair] = FUNCTION(gate[e] · x[t]) * (up[e] · x[t]) for every pair of a token t and an expert e of
//   its down      y[t] = sum over the pairs of t of weight * down[e] · inner[pair]
//
// Both work on CHUNK tokens at a time (blockIdx.y) and first list, in shared memory, the experts that these tokens
// chose and the tokens of each. A warp multiplies 16 rows of weights with 8 tokens per tile: lane 4 g + t streams 16
// bytes each of rows g and g + 8 from memory into the operands of mma.sync and loads the same columns of its token, g,
// from the caches. The order of columns within a product is free, so neither needs to be rearranged. f32 weights take
// the same way with FMAs in place of mma.sync.
//
// gate_up: a task is 8 gate rows and the 8 up rows that belong to them, split by columns over the UP_WARPS of a block;
// blocks take tasks in turn. down: a block owns 16 rows of y and goes through all experts, split over its warps by
// columns and summed in a fixed order, so that no sum depends on timing. `inner` holds one row per pair, in the order
// of the lists.
#include "device/activation.cuh"
#include "device/elements.cuh"
#include "device/mma_sync.cuh"

template <class A, class B>
constexpr bool kSame = false;
template <class A>
constexpr bool kSame<A, A> = true;

constexpr int kPairs = CHUNK * TOP_K, kMostActive = EXPERTS < kPairs ? EXPERTS : kPairs;
constexpr int kUpTiles = (INNER + 7) / 8;
// Elements of a row that a lane loads at once, that the 4 lanes of a row load at once, and that a loop takes.
constexpr int kLoad = 16 / sizeof(W_TYPE), kStep = 4 * kLoad, kLoop = UNROLL * kStep;
static_assert(CHUNK <= 64, "a chunk's tokens are the bits of a word");

// The chosen experts of a chunk in rising order, and the tokens of expert[i]: token[first[i] … first[i + 1] - 1].
struct Lists {
  uint64 chosen_by[EXPERTS];  // bit t: token t of the chunk
  int first_of[EXPERTS];
  int active, expert[kMostActive], first[kMostActive + 1];
  int token[kPairs];
  float weight[kPairs];
};

__device__ __forceinline__ void list_active(Lists& lists, int lane) {
  int active = 0, pairs = 0;
  for (int begin = 0; begin < EXPERTS; begin += 32) {
    const int expert = begin + lane;
    const uint64 tokens = expert < EXPERTS ? lists.chosen_by[expert] : 0;
    const int count = __popcll(tokens);
    const uint32 present = __ballot_sync(0xffffffffu, count > 0);
    int upto = count;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const int before = __shfl_up_sync(0xffffffffu, upto, distance);
      if (lane >= distance) upto += before;
    }
    if (count > 0) {
      const int at = active + __popc(present & ((1u << lane) - 1));
      lists.expert[at] = expert;
      lists.first[at] = lists.first_of[expert] = pairs + upto - count;
    }
    active += __popc(present);
    pairs += __shfl_sync(0xffffffffu, upto, 31);
  }
  if (lane == 0) lists.active = active, lists.first[active] = pairs;
}

// All threads of the block take part. A token may choose an expert twice: its weights add up.
__device__ __forceinline__ void make_lists(Lists& lists, const int* ids, const float* weights, int tokens) {
  for (int i = threadIdx.x; i < EXPERTS; i += blockDim.x) lists.chosen_by[i] = 0;
  for (int i = threadIdx.x; i < kPairs; i += blockDim.x) lists.weight[i] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < tokens * TOP_K; i += blockDim.x)
    atomicOr(&lists.chosen_by[ids[i]], uint64(1) << (i / TOP_K));
  __syncthreads();
  if (threadIdx.x < 32) list_active(lists, threadIdx.x);
  __syncthreads();
  for (int i = threadIdx.x; i < tokens * TOP_K; i += blockDim.x) {
    const int expert = ids[i], token = i / TOP_K;
    const uint64 before = (uint64(1) << token) - 1;
    const int at = lists.first_of[expert] + __popcll(lists.chosen_by[expert] & before);
    lists.token[at] = token;
    if (weights) atomicAdd(&lists.weight[at], weights[i]);
  }
  __syncthreads();
}

// --- products -------------------------------------------------------------------------------------------------------

// Whether mma.sync serves: halves as weights, activations that may be rounded to them.
constexpr bool kTensor = !kSame<W_TYPE, float> && (kSame<X_TYPE, W_TYPE> || !kSame<X_TYPE, bf16>);
using Compute = W_TYPE;
// Tiles of 8 tokens that share one reading of the weights.
constexpr int kMostTiles = kTensor ? 4 : 1;

template <bool TENSOR>
struct InnerOf {
  using type = W_TYPE;
};
template <>
struct InnerOf<false> {
  using type = float;
};
using Inner = typename InnerOf<kTensor>::type;

// kLoad elements of a row of K from column k on; zeros behind its end.
template <int K, class T>
__device__ __forceinline__ void load_columns(const T* row, int k, float* x) {
  if constexpr (K % kLoad == 0) {
    if (K % kLoop == 0 || k < K) {
      load_floats<kLoad>(row + k, x);
    } else {
#pragma unroll
      for (int i = 0; i < kLoad; ++i) x[i] = 0;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kLoad; ++i) x[i] = k + i < K ? to_float(row[k + i]) : 0;
  }
}

// The same as 16 bytes of halves, rounded if they are wider.
template <int K, class T>
__device__ __forceinline__ uint4 load_operand(const T* row, int k) {
  if constexpr (kSame<T, Compute> && K % kLoad == 0) {
    return K % kLoop == 0 || k < K ? *reinterpret_cast<const uint4*>(row + k) : uint4{0, 0, 0, 0};
  } else {
    float x[kLoad];
    load_columns<K>(row, k, x);
    Pack<uint32, 4> words;
    if constexpr (kLoad == 8) {
#pragma unroll
      for (int i = 0; i < 4; ++i) words.at[i] = word_from_floats(Compute{}, x + 2 * i);
    }
    return {words.at[0], words.at[1], words.at[2], words.at[3]};
  }
}

template <int K>
__device__ __forceinline__ uint4 load_weights(const W_TYPE* row, int k) {
  if constexpr (K % kLoad == 0) {
    return K % kLoop == 0 || k < K ? load_weight(row + k) : uint4{0, 0, 0, 0};
  } else {
    uint32 words[4] = {};
#pragma unroll
    for (int i = 0; i < kLoad; ++i) {
      if (k + i >= K) continue;
      if constexpr (sizeof(W_TYPE) == 4) {
        words[i] = __float_as_uint(to_float(row[k + i]));
      } else {
        words[i / 2] |= uint32(reinterpret_cast<const uint16*>(row)[k + i]) << (i % 2 * 16);
      }
    }
    return {words[0], words[1], words[2], words[3]};
  }
}

// The products of two rows of weights of this lane, whose 4 neighbours share them, with TILES tiles of tokens, over the
// loops first, first + stride, … < end. As sums, tile by tile: (row g, token 2t), (row g, token 2t + 1) and the same of
// row g + 8. `row_of(slot)` is the row of K activations of a token.
template <int K, int TILES, class RowOf>
__device__ __forceinline__ void multiply(const W_TYPE* low, const W_TYPE* high, RowOf row_of, int first, int end,
                                         int stride, float (&sums)[TILES][4]) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  constexpr int kRows = kTensor ? TILES : 8;
  decltype(row_of(0)) rows[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) rows[i] = row_of(kTensor ? 8 * i + g : i);
  float products[2][kTensor ? 1 : 8] = {};  // of FMAs
#pragma unroll
  for (int i = 0; i < TILES; ++i) sums[i][0] = sums[i][1] = sums[i][2] = sums[i][3] = 0;

  for (int loop = first; loop < end; loop += stride) {
    uint4 w[UNROLL][2];
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      const int k = loop * kLoop + u * kStep + t * kLoad;
      w[u][0] = load_weights<K>(low, k);
      w[u][1] = load_weights<K>(high, k);
    }
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      const int k = loop * kLoop + u * kStep + t * kLoad;
      if constexpr (kTensor) {
        const uint32 a[2][4] = {{w[u][0].x, w[u][1].x, w[u][0].y, w[u][1].y},
                                {w[u][0].z, w[u][1].z, w[u][0].w, w[u][1].w}};
#pragma unroll
        for (int i = 0; i < TILES; ++i) {
          const uint4 x = load_operand<K>(rows[i], k);
          multiply_add(Compute{}, sums[i], a[0], x.x, x.y);
          multiply_add(Compute{}, sums[i], a[1], x.z, x.w);
        }
      } else {
        float a[2][kLoad];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const uint32 words[4] = {w[u][r].x, w[u][r].y, w[u][r].z, w[u][r].w};
#pragma unroll
          for (int i = 0; i < 4; ++i) word_to_floats(W_TYPE{}, words[i], a[r] + i * (kLoad / 4));
        }
#pragma unroll
        for (int n = 0; n < 8; ++n) {
          float x[kLoad];
          load_columns<K>(rows[n], k, x);
#pragma unroll
          for (int i = 0; i < kLoad; ++i) products[0][n] += a[0][i] * x[i], products[1][n] += a[1][i] * x[i];
        }
      }
    }
  }
  if constexpr (!kTensor) {
#pragma unroll
    for (int r = 0; r < 2; ++r)
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        float sum = products[r][n];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        if (n / 2 == t) sums[0][2 * r + n % 2] = sum;
      }
  }
}

template <int N>
struct Number {
  static constexpr int value = N;
};

// Calls f(tiles, first slot) for the slots begin … end - 1 in tiles of 8, as many at once as there are.
template <class F>
__device__ __forceinline__ void each_tiles(int begin, int end, F f) {
  while (begin < end) {
    const int tiles = (end - begin + 7) / 8;
    if (kMostTiles == 1 || tiles == 1) {
      f(Number<1>{}, begin);
      begin += 8;
    } else if (tiles == 2) {
      f(Number<2>{}, begin);
      begin += 16;
    } else {
      f(Number<4>{}, begin);
      begin += 32;
    }
  }
}

// --- the two kernels ------------------------------------------------------------------------------------------------

extern "C" __global__ void __launch_bounds__(32 * UP_WARPS)
    gate_up(const X_TYPE* x, const int* ids, const W_TYPE* weights, Inner* inner, int tokens) {
  __shared__ Lists lists;
  __shared__ float sums_of[2][UP_WARPS][kMostTiles * 4][32];
  // In this order: once this kernel's blocks are past the wait, `down` may read the ids before its own.
  wait_for_previous();
  allow_next();
  const int chunk = blockIdx.y * CHUNK, warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  x += int64(chunk) * HIDDEN;
  inner += int64(chunk) * TOP_K * INNER;
  make_lists(lists, ids + chunk * TOP_K, nullptr, smaller(CHUNK, tokens - chunk));

  int buffer = 0;
  for (int task = blockIdx.x; task < lists.active * kUpTiles; task += gridDim.x) {
    const int at = task / kUpTiles, row = (task - at * kUpTiles) * 8 + g, end = lists.first[at + 1];
    const W_TYPE* gate = weights + (int64(lists.expert[at]) * (2 * INNER) + smaller(row, INNER - 1)) * HIDDEN;
    each_tiles(lists.first[at], end, [&](auto tiles, int first) {
      constexpr int kTiles = decltype(tiles)::value;
      float sums[kTiles][4];
      const auto row_of = [&](int slot) { return x + int64(lists.token[smaller(first + slot, end - 1)]) * HIDDEN; };
      multiply<HIDDEN, kTiles>(gate, gate + int64(INNER) * HIDDEN, row_of, warp, ceil_div(HIDDEN, kLoop), UP_WARPS,
                               sums);
      // Two buffers in turn: whoever writes one again is past a barrier that its readers had reached.
      buffer ^= 1;
#pragma unroll
      for (int i = 0; i < kTiles * 4; ++i) sums_of[buffer][warp][i][lane] = sums[i / 4][i % 4];
      __syncthreads();
      for (int i = warp; i < kTiles; i += UP_WARPS) {
        float total[4] = {};
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
          for (int w = 0; w < UP_WARPS; ++w) total[j] += sums_of[buffer][w][4 * i + j][lane];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int slot = first + 8 * i + 2 * t + j;
          if (slot < end && row < INNER)
            inner[int64(slot) * INNER + row] = from_float<Inner>(FUNCTION::of(total[j]) * total[2 + j]);
        }
      }
    });
  }
}

extern "C" __global__ void __launch_bounds__(32 * DOWN_WARPS)
    down(const Inner* inner, const int* ids, const float* pair_weights, const W_TYPE* weights, X_TYPE* y, int tokens) {
  constexpr int kSplits = ceil_div(INNER, kLoop);
  __shared__ Lists lists;
  __shared__ float y_of[DOWN_WARPS][16][CHUNK + 1];
  allow_next();
  const int chunk = blockIdx.y * CHUNK, warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int row = blockIdx.x * 16 + g, count = smaller(CHUNK, tokens - chunk);
  inner += int64(chunk) * TOP_K * INNER;
  for (int i = threadIdx.x; i < DOWN_WARPS * 16 * (CHUNK + 1); i += 32 * DOWN_WARPS) (&y_of[0][0][0])[i] = 0;
  make_lists(lists, ids + chunk * TOP_K, pair_weights + chunk * TOP_K, count);
  wait_for_previous();

  // This warp's part of all (expert, loop over columns), expert by expert.
  const int all = lists.active * kSplits, last = int(int64(all) * (warp + 1) / DOWN_WARPS);
  for (int unit = int(int64(all) * warp / DOWN_WARPS); unit < last;) {
    const int at = unit / kSplits, split = unit - at * kSplits, next = smaller(unit - split + kSplits, last);
    const int end = lists.first[at + 1];
    const W_TYPE* matrix = weights + int64(lists.expert[at]) * HIDDEN * INNER;
    const W_TYPE* low = matrix + int64(smaller(row, HIDDEN - 1)) * INNER;
    const W_TYPE* high = matrix + int64(smaller(row + 8, HIDDEN - 1)) * INNER;
    each_tiles(lists.first[at], end, [&](auto tiles, int first) {
      constexpr int kTiles = decltype(tiles)::value;
      float sums[kTiles][4];
      const auto row_of = [&](int slot) { return inner + int64(smaller(first + slot, end - 1)) * INNER; };
      multiply<INNER, kTiles>(low, high, row_of, split, split + next - unit, 1, sums);
#pragma unroll
      for (int i = 0; i < kTiles * 2; ++i) {
        const int slot = first + i / 2 * 8 + 2 * t + i % 2;
        if (slot >= end) continue;
        const int token = lists.token[slot];
        const float weight = lists.weight[slot];
        y_of[warp][g][token] += weight * sums[i / 2][i % 2];
        y_of[warp][g + 8][token] += weight * sums[i / 2][2 + i % 2];
      }
      __syncwarp();
    });
    unit = next;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < 16 * count; i += 32 * DOWN_WARPS) {
    const int token = i / 16, r = i % 16;
    if (blockIdx.x * 16 + r >= HIDDEN) continue;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < DOWN_WARPS; ++w) sum += y_of[w][r][token];
    y[int64(chunk + token) * HIDDEN + blockIdx.x * 16 + r] = from_float<X_TYPE>(sum);
  }
}
