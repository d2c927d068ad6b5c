// A mixture of experts for few tokens: every weight of a chosen expert is read once, none of another.
//
//   gate_up   inner[pair] = FUNCTION(gate[e] · x[t]) * (up[e] · x[t]), a pair being a token t and an expert e of its
//   down      y[t] = sum over the pairs of t of weight * down[e] · inner[pair]
//
// Both work on CHUNK tokens at a time (blockIdx.y) and first list, in shared memory, the experts that these tokens
// chose and the tokens of each. Then every warp goes its own way through strips of 16 rows of weights: 8 gate rows and
// the 8 up rows of the same outputs, or, in `down`, a part of the columns of all experts for the 16 rows of y that its
// block owns. A batch is 64 bytes of rows g and g + 8 for lane 4 g + t, 16 of each 64. Each lane copies its own bytes
// into a ring of batches in shared memory and takes them from there, so there is nothing to wait for but memory, and
// the ring stays full from one strip to the next. The bytes are the operands of mma.sync as they are, because the order
// of columns within a product is free; a lane loads the same columns of its token, number g of a tile of 8, from the
// caches. f32 weights take the same way with FMAs in place of mma.sync. Partial sums of warps meet in shared memory and
// are added in a fixed order, so no result depends on timing. `inner` holds one row per pair, in the order of the
// lists. Both kernels fit on a multiprocessor together: the rings of `down` fill while gate_up ends.
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
static_assert(CHUNK <= 16 && kPairs <= kThreads, "a thread lists a pair");
// Elements of a row that a lane, and that the 4 lanes of a row, take in a step; a batch is kSteps steps.
constexpr int kLoad = 16 / sizeof(W_TYPE), kStep = 4 * kLoad, kStepBytes = 1024;
constexpr int kSteps = 4, kBatch = kSteps * kStep, kBatchBytes = kSteps * kStepBytes;
// Whether mma.sync serves: halves as weights, activations that may be rounded to them.
constexpr bool kTensor = !kSame<W_TYPE, float> && (kSame<X_TYPE, W_TYPE> || !kSame<X_TYPE, bf16>);
// What a product may round to bf16 it may not round to f16: f32 operands are split into two halves then.
using Inner = typename Choice<kTensor && kSame<W_TYPE, bf16>, bf16, float>::type;
template <class T>
constexpr int kParts = kSame<T, float> && kSame<W_TYPE, f16> ? 2 : 1;
// Tiles of 8 tokens that share one reading of the weights.
constexpr int kMostTiles = kTensor ? 2 : 1;

// --- who chose whom -------------------------------------------------------------------------------------------------

// The chosen experts of a chunk in rising order, and the tokens of expert[i]: token[first[i] … first[i + 1] - 1].
struct Lists {
  uint32 chosen_by[EXPERTS];  // the tokens, as bits
  int first_of[EXPERTS];
  int active_in[kWarps], pairs_in[kWarps];
  int active, expert[kMostActive], first[kMostActive + 1];
  int token[kPairs];
  float weight[kPairs];

  __device__ __forceinline__ int passes(int at) const { return ceil_div(first[at + 1] - first[at], 8 * kMostTiles); }
};

// Each warp lists every 8th part of 32 experts.
__device__ __forceinline__ void list_active(Lists& lists) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int active = 0, pairs = 0;
  for (int begin = 0; begin < EXPERTS; begin += kThreads) {
    const int expert = begin + threadIdx.x, count = expert < EXPERTS ? __popc(lists.chosen_by[expert]) : 0;
    const uint32 present = __ballot_sync(0xffffffffu, count > 0);
    int upto = count;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const int before = __shfl_up_sync(0xffffffffu, upto, distance);
      if (lane >= distance) upto += before;
    }
    if (lane == 31) lists.active_in[warp] = __popc(present), lists.pairs_in[warp] = upto;
    __syncthreads();
    int at = active + __popc(present & ((1u << lane) - 1)), first = pairs + upto - count;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp) at += lists.active_in[w], first += lists.pairs_in[w];
      active += lists.active_in[w], pairs += lists.pairs_in[w];
    }
    if (count > 0) {
      lists.expert[at] = expert;
      lists.first[at] = lists.first_of[expert] = first;
    }
    if (EXPERTS > kThreads) __syncthreads();
  }
  if (threadIdx.x == 0) lists.active = active, lists.first[active] = pairs;
}

// All threads of the block take part. A token may choose an expert twice: its weights add up.
__device__ __forceinline__ void make_lists(Lists& lists, const int* ids, const float* weights, int tokens) {
  const bool has_pair = threadIdx.x < tokens * TOP_K;
  const int expert = has_pair ? ids[threadIdx.x] : 0, token = threadIdx.x / TOP_K;
  const float weight = has_pair && weights ? weights[threadIdx.x] : 0;
  for (int i = threadIdx.x; i < EXPERTS; i += kThreads) lists.chosen_by[i] = 0;
  if (threadIdx.x < kPairs) lists.weight[threadIdx.x] = 0;
  __syncthreads();
  if (has_pair) atomicOr(&lists.chosen_by[expert], 1u << token);
  __syncthreads();
  list_active(lists);
  __syncthreads();
  if (has_pair) {
    const int at = lists.first_of[expert] + __popc(lists.chosen_by[expert] & ((1u << token) - 1));
    lists.token[at] = token;
    if (weights) atomicAdd(&lists.weight[at], weight);
  }
  __syncthreads();
}

// --- the stream of weights ------------------------------------------------------------------------------------------

// Batches begin … end - 1 of a strip, which serve the tokens of the active expert `at`; low and high are this lane's
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
    const bool wanted = K % kBatch == 0 || k < K;
    copy_async(place, row + (wanted ? k : 0), wanted);
  } else {
    W_TYPE* elements = reinterpret_cast<W_TYPE*>(rings + (place - shared_address(rings)));
    for (int i = 0; i < kLoad; ++i) elements[i] = k + i < K ? row[k + i] : from_float<W_TYPE>(0);
  }
}

// Keeps this warp's ring of DEPTH batches full with the segments segment_at(0), segment_at(1), … up to `segments`, each
// once per pass over its expert's tokens.
template <int K, int DEPTH, class SegmentAt>
class Feed {
 public:
  __device__ __forceinline__ Feed(const Lists& lists, SegmentAt segment_at, int segments)
      : lists_(lists), segment_at_(segment_at), segments_(segments) {
    ring_ = shared_address(rings) + threadIdx.x / 32 * (DEPTH * kBatchBytes) + threadIdx.x % 32 * 16;
    if (segments > 0) begin();
    for (int i = 0; i < DEPTH; ++i) next();
  }

  // This lane's part of the oldest batch: of rows g and g + 8, step by step.
  __device__ __forceinline__ void take(uint4 (&w)[kSteps][2]) {
    wait_for_copies<DEPTH - 1>();
    const unsigned char* batch = rings + (ring_ - shared_address(rings)) + place_ * kBatchBytes;
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        w[step][r] = *reinterpret_cast<const uint4*>(batch + step * kStepBytes + r * (kStepBytes / 2));
  }
  // Gives the place of the oldest batch, whose bytes have been used, to a new one.
  __device__ __forceinline__ void refill() { next(); }

 private:
  __device__ __forceinline__ void begin() {
    segment_ = segment_at_(index_);
    batch_ = segment_.begin;
    passes_ = lists_.passes(segment_.at);
  }
  __device__ __forceinline__ void next() {
    if (index_ < segments_) {
      const uint32 place = ring_ + place_ * kBatchBytes;
      const int k = batch_ * kBatch + threadIdx.x % 4 * kLoad;
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        fetch<K>(place + step * kStepBytes, segment_.low, k + step * kStep);
        fetch<K>(place + step * kStepBytes + kStepBytes / 2, segment_.high, k + step * kStep);
      }
      if (++batch_ == segment_.end) {
        batch_ = segment_.begin;
        if (--passes_ == 0 && ++index_ < segments_) begin();
      }
    }
    commit_copies();
    place_ = place_ + 1 == DEPTH ? 0 : place_ + 1;
  }

  const Lists& lists_;
  SegmentAt segment_at_;
  Segment segment_;
  uint32 ring_;
  int place_ = 0;  // of the oldest batch, and of the next one
  int segments_, index_ = 0, passes_ = 0, batch_ = 0;
};

// --- products -------------------------------------------------------------------------------------------------------

// kLoad elements of a row of K from column k on; zeros behind its end.
template <int K, class T>
__device__ __forceinline__ void load_columns(const T* row, int k, float* x) {
  if constexpr (K % kLoad == 0) {
    if (K % kBatch == 0 || k < K) {
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
    return {K % kBatch == 0 || k < K ? *reinterpret_cast<const uint4*>(row + k) : uint4{0, 0, 0, 0}};
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

// The products of the next batches begin … end - 1 of the feed with up to 8 * TILES tokens, by mma.sync. As sums, tile
// by tile: (row g, token 2t), (row g, token 2t + 1) and the same of row g + 8. row_of(slot) is a token's row of K.
template <int K, int TILES, class Feed, class RowOf>
__device__ __forceinline__ void multiply_tensor(Feed& feed, RowOf row_of, int begin, int end, float (&sums)[TILES][4]) {
  const int lane = threadIdx.x % 32;
  decltype(row_of(0)) rows[TILES];
#pragma unroll
  for (int tile = 0; tile < TILES; ++tile) {
    rows[tile] = row_of(8 * tile + lane / 4);
    sums[tile][0] = sums[tile][1] = sums[tile][2] = sums[tile][3] = 0;
  }
  for (int batch = begin; batch < end; ++batch) {
    const int k = batch * kBatch + lane % 4 * kLoad;
    decltype(load_operand<K>(rows[0], 0)) x[kSteps][TILES];
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
#pragma unroll
      for (int tile = 0; tile < TILES; ++tile) x[step][tile] = load_operand<K>(rows[tile], k + step * kStep);
    uint4 w[kSteps][2];
    feed.take(w);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const uint4 low = w[step][0], high = w[step][1];
      const uint32 a[2][4] = {{low.x, high.x, low.y, high.y}, {low.z, high.z, low.w, high.w}};
#pragma unroll
      for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
        for (const uint4& part : x[step][tile].part) {
          multiply_add(W_TYPE{}, sums[tile], a[0], part.x, part.y);
          multiply_add(W_TYPE{}, sums[tile], a[1], part.z, part.w);
        }
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
  for (int batch = begin; batch < end; ++batch) {
    uint4 w[kSteps][2];
    feed.take(w);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      float a[2][kLoad];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const uint32 words[4] = {w[step][r].x, w[step][r].y, w[step][r].z, w[step][r].w};
#pragma unroll
        for (int i = 0; i < 4; ++i) word_to_floats(W_TYPE{}, words[i], a[r] + i * (kLoad / 4));
      }
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        if (n >= tokens) break;
        float x[kLoad];
        load_columns<K>(rows[n], batch * kBatch + step * kStep + t * kLoad, x);
#pragma unroll
        for (int i = 0; i < kLoad; ++i) products[0][n] += a[0][i] * x[i], products[1][n] += a[1][i] * x[i];
      }
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
    if (kMostTiles == 1 || end - first <= 8) {
      multiply(Number<1>{});
    } else {
      multiply(Number<kMostTiles>{});
    }
  }
}

// --- the two kernels ------------------------------------------------------------------------------------------------

extern "C" __global__ void __launch_bounds__(kThreads, 2)
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
    return {gate, gate + int64(INNER) * HIDDEN, at, 0, ceil_div(HIDDEN, kBatch)};
  };
  Feed<HIDDEN, UP_DEPTH, decltype(segment_at)> feed(lists, segment_at, segments);
  for (int i = 0; i < segments; ++i) {
    const int row = row_at(i);
    multiply_segment<HIDDEN>(
        feed, lists, segment_at(i), [&](int slot) { return x + int64(lists.token[slot]) * HIDDEN; },
        [&](int slot, float gate, float up) {
          if (row < INNER) inner[int64(slot) * INNER + row] = from_float<Inner>(FUNCTION::of(gate) * up);
        });
  }
}

extern "C" __global__ void __launch_bounds__(kThreads, 2)
    down(const Inner* inner, const int* ids, const float* pair_weights, const W_TYPE* weights, X_TYPE* y, int tokens) {
  constexpr int kBatches = ceil_div(INNER, kBatch);
  __shared__ Lists lists;
  __shared__ float y_of[kWarps][16][CHUNK + 1];
  allow_next();
  const int chunk = blockIdx.y * CHUNK, warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4;
  const int row = blockIdx.x * 16 + g, count = smaller(CHUNK, tokens - chunk);
  inner += int64(chunk) * TOP_K * INNER;
  for (int i = threadIdx.x; i < kWarps * 16 * (CHUNK + 1); i += kThreads) (&y_of[0][0][0])[i] = 0;
  make_lists(lists, ids + chunk * TOP_K, pair_weights + chunk * TOP_K, count);

  // This warp's part of all batches, expert by expert.
  const int all = lists.active * kBatches;
  const int begin = int(int64(all) * warp / kWarps), end = int(int64(all) * (warp + 1) / kWarps);
  const int first = begin / kBatches, segments = end > begin ? ceil_div(end, kBatches) - first : 0;
  const auto segment_at = [&](int index) -> Segment {
    const int at = first + index;
    const W_TYPE* matrix = weights + int64(lists.expert[at]) * HIDDEN * INNER;
    return {matrix + int64(smaller(row, HIDDEN - 1)) * INNER, matrix + int64(smaller(row + 8, HIDDEN - 1)) * INNER, at,
            greater(begin - at * kBatches, 0), smaller(end - at * kBatches, kBatches)};
  };
  // Weights are read while gate_up still runs.
  Feed<INNER, DOWN_DEPTH, decltype(segment_at)> feed(lists, segment_at, segments);
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
