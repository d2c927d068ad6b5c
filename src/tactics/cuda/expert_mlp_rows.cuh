// A mixture of experts for few tokens: every weight of a chosen expert is read once, none of another.
//
//   gate_up   inner[pair] = FUNCTION(gate[e] · x[t]) * (up[e] · x[t]) for every pair of a token t and an expert e of
//   its down      y[t] = sum over the pairs of t of weight * down[e] · inner[pair]
//
// Both work on CHUNK tokens at a time (blockIdx.y) and first list, in shared memory, the experts that these tokens
// chose and the tokens of each. Then every warp goes its own way through strips of 16 rows of weights: 8 gate rows and
// the 8 up rows of the same outputs, or, in `down`, a part of the columns of all experts for the 16 rows of y that its
// block owns. A step is 16 bytes of rows g and g + 8 for lane 4 g + t. Each lane copies its own bytes into a ring of
// DEPTH steps in shared memory and takes them from there, so there is nothing to wait for but memory, and the ring
// stays full from one strip to the next. The bytes are the operands of mma.sync as they are, because the order of
// columns within a product is free; a lane loads the same columns of its token, number g of a tile of 8, from the
// caches. f32 weights take the same way with FMAs in place of mma.sync. Partial sums of warps meet in shared memory and
// are added in a fixed order, so no result depends on timing. `inner` holds one row per pair, in the order of the
// lists.
#include "device/activation.cuh"
#include "device/elements.cuh"
#include "device/mma_sync.cuh"

template <class A, class B>
constexpr bool kSame = false;
template <class A>
constexpr bool kSame<A, A> = true;
template <bool FIRST, class A, class B>
struct Choice {
  using type = A;
};
template <class A, class B>
struct Choice<false, A, B> {
  using type = B;
};
template <int N>
struct Number {
  static constexpr int value = N;
};

constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr int kPairs = CHUNK * TOP_K, kMostActive = EXPERTS < kPairs ? EXPERTS : kPairs;
// Elements of a row that a lane, and that the 4 lanes of a row take in a step.
constexpr int kLoad = 16 / sizeof(W_TYPE), kStep = 4 * kLoad, kStepBytes = 1024;
// Whether mma.sync serves: halves as weights, activations that may be rounded to them.
constexpr bool kTensor = !kSame<W_TYPE, float> && (kSame<X_TYPE, W_TYPE> || !kSame<X_TYPE, bf16>);
// What a product may round to bf16 it may not round to f16: f32 operands are split into two halves then.
using Inner = typename Choice<kTensor && kSame<W_TYPE, bf16>, bf16, float>::type;
template <class T>
constexpr int kParts = kSame<T, float> && kSame<W_TYPE, f16> ? 2 : 1;
// Tiles of 8 tokens that share one reading of the weights.
constexpr int kMostTiles = kTensor ? 4 : 1;
static_assert(CHUNK <= 64 && (DEPTH & (DEPTH - 1)) == 0, "a chunk's tokens are the bits of two words");

// --- who chose whom -------------------------------------------------------------------------------------------------

// The chosen experts of a chunk in rising order, and the tokens of expert[i]: token[first[i] … first[i + 1] - 1].
struct Lists {
  uint32 chosen_by[EXPERTS][2];  // the tokens, as bits
  int first_of[EXPERTS];
  int active, expert[kMostActive], first[kMostActive + 1];
  int token[kPairs];
  float weight[kPairs];

  __device__ __forceinline__ int passes(int at) const { return ceil_div(first[at + 1] - first[at], 8 * kMostTiles); }
};

__device__ __forceinline__ void list_active(Lists& lists, int lane) {
  int active = 0, pairs = 0;
  for (int begin = 0; begin < EXPERTS; begin += 32) {
    const int expert = begin + lane;
    const int count = expert < EXPERTS ? __popc(lists.chosen_by[expert][0]) + __popc(lists.chosen_by[expert][1]) : 0;
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
  for (int i = threadIdx.x; i < EXPERTS; i += kThreads) lists.chosen_by[i][0] = lists.chosen_by[i][1] = 0;
  for (int i = threadIdx.x; i < kPairs; i += kThreads) lists.weight[i] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < tokens * TOP_K; i += kThreads) {
    const int token = i / TOP_K;
    atomicOr(&lists.chosen_by[ids[i]][token / 32], 1u << (token % 32));
  }
  __syncthreads();
  if (threadIdx.x < 32) list_active(lists, threadIdx.x);
  __syncthreads();
  for (int i = threadIdx.x; i < tokens * TOP_K; i += kThreads) {
    const int expert = ids[i], token = i / TOP_K;
    const uint32 *tokens_of = lists.chosen_by[expert], before = (1u << (token % 32)) - 1;
    int at = lists.first_of[expert] + __popc(tokens_of[token / 32] & before);
    if (token >= 32) at += __popc(tokens_of[0]);
    lists.token[at] = token;
    if (weights) atomicAdd(&lists.weight[at], weights[i]);
  }
  __syncthreads();
}

// --- the stream of weights ------------------------------------------------------------------------------------------

// Steps begin … end - 1 of a strip, which serve the tokens of the active expert `at`; low and high are this lane's
// rows.
struct Segment {
  const W_TYPE *low, *high;
  int at, begin, end;
};

extern __shared__ __align__(128) unsigned char rings[];

// 16 bytes at column k of a row of K, zeros behind its end. Rows that are no multiples of 16 bytes cannot be copied
// asynchronously.
template <int K>
__device__ __forceinline__ void fetch(uint32 place, const W_TYPE* row, int k) {
  if constexpr (K % kLoad == 0) {
    const bool wanted = K % kStep == 0 || k < K;
    copy_async(place, row + (wanted ? k : 0), wanted);
  } else {
    W_TYPE* elements = reinterpret_cast<W_TYPE*>(rings + (place - shared_address(rings)));
    for (int i = 0; i < kLoad; ++i) elements[i] = k + i < K ? row[k + i] : from_float<W_TYPE>(0);
  }
}

// Keeps this warp's ring full with the segments segment_at(0), segment_at(1), … up to `segments`, each once per pass
// over its expert's tokens.
template <int K, class SegmentAt>
class Feed {
 public:
  __device__ __forceinline__ Feed(const Lists& lists, SegmentAt segment_at, int segments)
      : lists_(lists), segment_at_(segment_at), left_(segments) {
    ring_ = shared_address(rings) + threadIdx.x / 32 * (DEPTH * kStepBytes) + threadIdx.x % 32 * 16;
    if (left_ > 0) begin(0);
    for (int i = 0; i < DEPTH; ++i) next();
  }

  // This lane's 32 bytes of the oldest step.
  __device__ __forceinline__ void take(uint4 (&w)[2]) {
    wait_for_copies<DEPTH - 1>();
    const uint32 offset = ring_ - shared_address(rings) + taken_ % DEPTH * kStepBytes;
    w[0] = *reinterpret_cast<const uint4*>(rings + offset);
    w[1] = *reinterpret_cast<const uint4*>(rings + offset + kStepBytes / 2);
  }
  // Gives the place of the oldest step, whose bytes have been used, to a new one.
  __device__ __forceinline__ void refill() {
    ++taken_;
    next();
  }

 private:
  __device__ __forceinline__ void begin(int index) {
    segment_ = segment_at_(index);
    step_ = segment_.begin;
    passes_ = lists_.passes(segment_.at);
  }
  __device__ __forceinline__ void next() {
    if (left_ > 0) {
      const uint32 place = ring_ + fetched_ % DEPTH * kStepBytes;
      const int k = step_ * kStep + threadIdx.x % 4 * kLoad;
      fetch<K>(place, segment_.low, k);
      fetch<K>(place + kStepBytes / 2, segment_.high, k);
      ++fetched_;
      if (++step_ == segment_.end) {
        step_ = segment_.begin;
        if (--passes_ == 0) {
          ++index_;
          if (--left_ > 0) begin(index_);
        }
      }
    }
    commit_copies();
  }

  const Lists& lists_;
  SegmentAt segment_at_;
  Segment segment_;
  uint32 ring_, fetched_ = 0, taken_ = 0;
  int index_ = 0, left_, passes_ = 0, step_ = 0;
};

// --- products -------------------------------------------------------------------------------------------------------

// kLoad elements of a row of K from column k on; zeros behind its end.
template <int K, class T>
__device__ __forceinline__ void load_columns(const T* row, int k, float* x) {
  if constexpr (K % kLoad == 0) {
    if (K % kStep == 0 || k < K) {
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

// The same as halves: the operand of a product, or two whose sum is the exact one.
template <int PARTS>
struct Operand {
  uint4 part[PARTS];
};
template <int K, class T>
__device__ __forceinline__ Operand<kParts<T>> load_operand(const T* row, int k) {
  if constexpr (kSame<T, W_TYPE> && K % kLoad == 0) {
    return {K % kStep == 0 || k < K ? *reinterpret_cast<const uint4*>(row + k) : uint4{0, 0, 0, 0}};
  } else {
    float x[8];
    load_columns<K>(row, k, x);
    Operand<kParts<T>> operand;
#pragma unroll
    for (uint4& part : operand.part) {
      uint32 words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        words[i] = word_from_floats(W_TYPE{}, x + 2 * i);
        float rounded[2];
        word_to_floats(W_TYPE{}, words[i], rounded);
        x[2 * i] -= rounded[0], x[2 * i + 1] -= rounded[1];
      }
      part = {words[0], words[1], words[2], words[3]};
    }
    return operand;
  }
}

// The products of the next steps begin … end - 1 of the feed with up to 8 * TILES tokens, by mma.sync. As sums, tile by
// tile: (row g, token 2t), (row g, token 2t + 1) and the same of row g + 8. row_of(slot) is a token's row of K.
template <int K, int TILES, class Feed, class RowOf>
__device__ __forceinline__ void multiply_tensor(Feed& feed, RowOf row_of, int begin, int end, float (&sums)[TILES][4]) {
  const int lane = threadIdx.x % 32, column = lane % 4 * kLoad;
  decltype(row_of(0)) rows[TILES];
  decltype(load_operand<K>(rows[0], 0)) next[TILES], x[TILES];
#pragma unroll
  for (int i = 0; i < TILES; ++i) {
    rows[i] = row_of(8 * i + lane / 4);
    next[i] = load_operand<K>(rows[i], begin * kStep + column);
    sums[i][0] = sums[i][1] = sums[i][2] = sums[i][3] = 0;
  }
#pragma unroll 4
  for (int step = begin; step < end; ++step) {
    uint4 w[2];
#pragma unroll
    for (int i = 0; i < TILES; ++i) {
      x[i] = next[i];
      if (step + 1 < end) next[i] = load_operand<K>(rows[i], (step + 1) * kStep + column);
    }
    feed.take(w);
    const uint32 a[2][4] = {{w[0].x, w[1].x, w[0].y, w[1].y}, {w[0].z, w[1].z, w[0].w, w[1].w}};
#pragma unroll
    for (int i = 0; i < TILES; ++i) {
#pragma unroll
      for (const uint4& part : x[i].part) {
        multiply_add(W_TYPE{}, sums[i], a[0], part.x, part.y);
        multiply_add(W_TYPE{}, sums[i], a[1], part.z, part.w);
      }
    }
    feed.refill();
  }
}

// The same by FMAs with `tokens` of one tile.
template <int K, class Feed, class RowOf>
__device__ __forceinline__ void multiply_fma(Feed& feed, RowOf row_of, int tokens, int begin, int end,
                                             float (&sums)[1][4]) {
  const int t = threadIdx.x % 4;
  decltype(row_of(0)) rows[8];
  float products[2][8] = {};
#pragma unroll
  for (int n = 0; n < 8; ++n) rows[n] = row_of(n);
  for (int step = begin; step < end; ++step) {
    uint4 w[2];
    feed.take(w);
    float a[2][kLoad];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const uint32 words[4] = {w[r].x, w[r].y, w[r].z, w[r].w};
#pragma unroll
      for (int i = 0; i < 4; ++i) word_to_floats(W_TYPE{}, words[i], a[r] + i * (kLoad / 4));
    }
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      if (n >= tokens) break;
      float x[kLoad];
      load_columns<K>(rows[n], step * kStep + t * kLoad, x);
#pragma unroll
      for (int i = 0; i < kLoad; ++i) products[0][n] += a[0][i] * x[i], products[1][n] += a[1][i] * x[i];
    }
    feed.refill();
  }
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

// Multiplies a segment with all tokens of its expert, a pass at a time. activations(slot) is the row of K of the token
// in a slot of the lists, store(slot, row g's sum, row g + 8's sum) takes the results.
template <int K, class Feed, class Activations, class Store>
__device__ __forceinline__ void multiply_segment(Feed& feed, const Lists& lists, const Segment& segment,
                                                 Activations activations, Store store) {
  const int end = lists.first[segment.at + 1], t = threadIdx.x % 4;
  for (int first = lists.first[segment.at]; first < end; first += 8 * kMostTiles) {
    // Slots without a token repeat the last one; their results are dropped.
    const auto row_of = [&](int slot) { return activations(smaller(first + slot, end - 1)); };
    const auto store_all = [&](auto& sums) {
#pragma unroll
      for (int i = 0; i < int(sizeof(sums) / 8); ++i) {
        const int slot = first + i / 2 * 8 + 2 * t + i % 2;
        if (slot < end) store(slot, sums[i / 2][i % 2], sums[i / 2][2 + i % 2]);
      }
    };
    const auto multiply = [&](auto tiles) {
      float sums[decltype(tiles)::value][4];
      if constexpr (kTensor) {
        multiply_tensor<K, decltype(tiles)::value>(feed, row_of, segment.begin, segment.end, sums);
      } else {
        multiply_fma<K>(feed, row_of, end - first, segment.begin, segment.end, sums);
      }
      store_all(sums);
    };
    if (!kTensor || end - first <= 8) {
      multiply(Number<1>{});
    } else if (end - first <= 16) {
      multiply(Number<smaller(2, kMostTiles)>{});
    } else {
      multiply(Number<kMostTiles>{});
    }
  }
}

// --- the two kernels ------------------------------------------------------------------------------------------------

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    gate_up(const X_TYPE* x, const int* ids, const W_TYPE* weights, Inner* inner, int tokens) {
  constexpr int kStrips = ceil_div(INNER, 8);
  __shared__ Lists lists;
  // In this order: once this kernel's blocks are past the wait, `down` may read the ids before its own.
  wait_for_previous();
  allow_next();
  const int chunk = blockIdx.y * CHUNK, warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4;
  x += int64(chunk) * HIDDEN;
  inner += int64(chunk) * TOP_K * INNER;
  make_lists(lists, ids + chunk * TOP_K, nullptr, smaller(CHUNK, tokens - chunk));

  // Neighbouring strips go to different multiprocessors.
  const int first = blockIdx.x + gridDim.x * warp, stride = gridDim.x * kWarps;
  const int segments = ceil_div(greater(lists.active * kStrips - first, 0), stride);
  const auto row_at = [&](int index) { return (first + index * stride) % kStrips * 8 + g; };
  const auto segment_at = [&](int index) -> Segment {
    const int at = (first + index * stride) / kStrips;
    const W_TYPE* gate = weights + (int64(lists.expert[at]) * (2 * INNER) + smaller(row_at(index), INNER - 1)) * HIDDEN;
    return {gate, gate + int64(INNER) * HIDDEN, at, 0, ceil_div(HIDDEN, kStep)};
  };
  Feed<HIDDEN, decltype(segment_at)> feed(lists, segment_at, segments);
  for (int i = 0; i < segments; ++i) {
    const int row = row_at(i);
    multiply_segment<HIDDEN>(
        feed, lists, segment_at(i), [&](int slot) { return x + int64(lists.token[slot]) * HIDDEN; },
        [&](int slot, float gate, float up) {
          if (row < INNER) inner[int64(slot) * INNER + row] = from_float<Inner>(FUNCTION::of(gate) * up);
        });
  }
}

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    down(const Inner* inner, const int* ids, const float* pair_weights, const W_TYPE* weights, X_TYPE* y, int tokens) {
  constexpr int kSteps = ceil_div(INNER, kStep);
  __shared__ Lists lists;
  __shared__ float y_of[kWarps][16][CHUNK + 1];
  allow_next();
  const int chunk = blockIdx.y * CHUNK, warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4;
  const int row = blockIdx.x * 16 + g, count = smaller(CHUNK, tokens - chunk);
  inner += int64(chunk) * TOP_K * INNER;
  for (int i = threadIdx.x; i < kWarps * 16 * (CHUNK + 1); i += kThreads) (&y_of[0][0][0])[i] = 0;
  make_lists(lists, ids + chunk * TOP_K, pair_weights + chunk * TOP_K, count);

  // This warp's part of all steps, expert by expert.
  const int all = lists.active * kSteps;
  const int begin = int(int64(all) * warp / kWarps), end = int(int64(all) * (warp + 1) / kWarps);
  const int first = begin / kSteps, segments = end > begin ? ceil_div(end, kSteps) - first : 0;
  const auto segment_at = [&](int index) -> Segment {
    const int at = first + index;
    const W_TYPE* matrix = weights + int64(lists.expert[at]) * HIDDEN * INNER;
    return {matrix + int64(smaller(row, HIDDEN - 1)) * INNER, matrix + int64(smaller(row + 8, HIDDEN - 1)) * INNER, at,
            greater(begin - at * kSteps, 0), smaller(end - at * kSteps, kSteps)};
  };
  // Weights are read while gate_up still runs.
  Feed<INNER, decltype(segment_at)> feed(lists, segment_at, segments);
  wait_for_previous();
  for (int i = 0; i < segments; ++i) {
    multiply_segment<INNER>(
        feed, lists, segment_at(i), [&](int slot) { return inner + int64(slot) * INNER; },
        [&](int slot, float low, float high) {
          const float weight = lists.weight[slot];
          y_of[warp][g][lists.token[slot]] += weight * low;
          y_of[warp][g + 8][lists.token[slot]] += weight * high;
        });
    // Another lane may add to the same sums next.
    __syncwarp();
  }
  __syncthreads();
  for (int i = threadIdx.x; i < 16 * count; i += kThreads) {
    const int token = i / 16, r = i % 16;
    if (blockIdx.x * 16 + r >= HIDDEN) continue;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += y_of[w][r][token];
    y[int64(chunk + token) * HIDDEN + blockIdx.x * 16 + r] = from_float<X_TYPE>(sum);
  }
}
