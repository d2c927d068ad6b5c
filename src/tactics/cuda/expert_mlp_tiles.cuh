// A mixture of experts for many tokens: their rows are sorted by expert and multiplied tile by tile.
//
//   group     sorts the pairs of a token and one of its experts by expert and lists tiles of up to ROWS pairs of one
//   gate_up   inner[place] = FUNCTION(gate[e] · x[t]) * (up[e] · x[t]), place being a pair's place in that order
//   down      partial[pair] = weight * down[e] · inner[place]
//   combine   y[t] = sum of the partial results of t's pairs, in their order, so that no sum depends on timing
//
// A block of WARPS_M x WARPS_N warps multiplies one tile of pairs with COLUMNS rows of weights, 128 bytes of each row
// at a time: asynchronous copies fetch slices of both ahead into STAGES places of shared memory, chunks of 16 bytes at
// chunk ^ (row % 8), so that neither the copies nor the products meet bank conflicts. Halves are multiplied by wgmma
// with WARPGROUPS (sm_90a; warps of a warpgroup lie below each other), else by mma.sync, f32 by FMAs. For gate_up,
// kHalf gate rows alternate with the kHalf up rows of the same outputs, so that both sums meet in one thread. Tiles are
// blockIdx.x: blocks that run together share weights in the second cache. The number of tiles is known on the device
// only; the grid has room for the worst case, and blocks without a tile end at once. The caller sees to it that rows of
// HIDDEN and INNER elements are multiples of 16 bytes.
#include "device/activation.cuh"
#include "device/elements.cuh"
#include "device/mma_sync.cuh"
#if WARPGROUPS
#include "device/wgmma.cuh"
#endif

template <class A, class B>
constexpr bool kSame = false;
template <class A>
constexpr bool kSame<A, A> = true;

constexpr int kThreads = 32 * WARPS_M * WARPS_N;
constexpr int kSlice = 128 / sizeof(TYPE), kChunk = 16 / sizeof(TYPE);  // elements
constexpr int kStageBytes = (ROWS + COLUMNS) * 128;
constexpr bool kTensor = sizeof(TYPE) == 2;
constexpr int kHalf = kTensor ? 8 : 16;
// Slices on their way. wgmma still reads the slice before the current one while the next place is filled.
constexpr int kAhead = WARPGROUPS ? STAGES - 2 : STAGES - 1;
static_assert(!WARPGROUPS || ROWS == 16 * WARPS_M, "a warp of a warpgroup has 16 rows");
// bf16 results may be rounded before the next product; f16 ones are kept as two halves, all first ones of a row before
// all second ones, and multiplied twice.
constexpr int kParts = kSame<TYPE, f16> ? 2 : 1;

// --- grouping -------------------------------------------------------------------------------------------------------

struct Tile {
  int expert, begin, end;  // places
};

// starts[e] is the place of expert e's first pair, tile_starts[e] the number of its first tile; one warp.
__device__ __forceinline__ int scan_counts(const int* counts, int* starts, int* tile_starts) {
  const int lane = threadIdx.x;
  int pairs = 0, tiles = 0;
  for (int begin = 0; begin < EXPERTS; begin += 32) {
    const int expert = begin + lane, count = expert < EXPERTS ? counts[expert] : 0, own = ceil_div(count, ROWS);
    int upto = count, tiles_upto = own;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const int before = __shfl_up_sync(0xffffffffu, upto, distance);
      const int tiles_before = __shfl_up_sync(0xffffffffu, tiles_upto, distance);
      if (lane >= distance) upto += before, tiles_upto += tiles_before;
    }
    if (expert < EXPERTS) {
      starts[expert] = pairs + upto - count;
      tile_starts[expert] = tiles + tiles_upto - own;
    }
    pairs += __shfl_sync(0xffffffffu, upto, 31);
    tiles += __shfl_sync(0xffffffffu, tiles_upto, 31);
  }
  return tiles;
}

// One block. The order of pairs within an expert may differ between runs; nothing else depends on it.
extern "C" __global__ void __launch_bounds__(1024)
    group(const int* ids, int* order, Tile* tiles, int pairs, int most_tiles) {
  __shared__ int counts[EXPERTS], starts[EXPERTS], tile_starts[EXPERTS], all_tiles;
  allow_next();
  for (int i = threadIdx.x; i < EXPERTS; i += 1024) counts[i] = 0;
  __syncthreads();
  wait_for_previous();
  for (int i = threadIdx.x; i < pairs; i += 1024) atomicAdd(&counts[ids[i]], 1);
  __syncthreads();
  if (threadIdx.x < 32) {
    const int sum = scan_counts(counts, starts, tile_starts);
    if (threadIdx.x == 0) all_tiles = sum;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < EXPERTS; i += 1024)
    for (int begin = 0, tile = tile_starts[i]; begin < counts[i]; begin += ROWS, ++tile)
      tiles[tile] = {i, starts[i] + begin, starts[i] + smaller(begin + ROWS, counts[i])};
  for (int i = all_tiles + threadIdx.x; i < most_tiles; i += 1024) tiles[i] = {0, 0, 0};
  __syncthreads();
  for (int i = threadIdx.x; i < pairs; i += 1024) order[atomicAdd(&starts[ids[i]], 1)] = i;
}

// --- products -------------------------------------------------------------------------------------------------------

extern __shared__ __align__(1024) unsigned char stages[];

// Where a chunk of a row of a slice lies in it.
__device__ __forceinline__ int chunk_offset(int row, int chunk) { return row * 128 + ((chunk ^ (row & 7)) << 4); }

// Copies slices: this thread's chunk of every 32nd row, or of more with more threads. Rows of the first matrix have K
// elements, those of the second B_K, a divisor: they are gone through again and again.
template <int K, int B_K>
class Copier {
 public:
  static constexpr int kRowsAtOnce = kThreads / 8;
  static constexpr int kA = ceil_div(ROWS, kRowsAtOnce), kB = ceil_div(COLUMNS, kRowsAtOnce);

  // a_row(i) and b_row(i) are what becomes rows i of the slices; only `rows` of the first are used.
  template <class ARow, class BRow>
  __device__ __forceinline__ Copier(int rows, ARow a_row, BRow b_row) : rows_(rows) {
#pragma unroll
    for (int i = 0; i < kA; ++i) a_[i] = a_row(smaller(row(i), rows - 1));
#pragma unroll
    for (int i = 0; i < kB; ++i) b_[i] = b_row(smaller(row(i), COLUMNS - 1));
  }

  __device__ __forceinline__ void copy(int slice) const {
    const uint32 a = shared_address(stages) + slice % STAGES * kStageBytes, b = a + ROWS * 128;
    const int k = slice * kSlice + chunk() * kChunk;
    const bool wanted = K % kSlice == 0 || k < K;
    const int a_k = wanted ? k : 0, b_k = K == B_K ? a_k : a_k % B_K;
#pragma unroll
    for (int i = 0; i < kA; ++i)
      if (row(i) < rows_) copy_async(a + chunk_offset(row(i), chunk()), a_[i] + a_k, wanted);
#pragma unroll
    for (int i = 0; i < kB; ++i)
      if (COLUMNS % kRowsAtOnce == 0 || row(i) < COLUMNS)
        copy_async(b + chunk_offset(row(i), chunk()), b_[i] + b_k, wanted);
  }

 private:
  __device__ __forceinline__ static int chunk() { return threadIdx.x % 8; }
  __device__ __forceinline__ static int row(int i) { return threadIdx.x / 8 + i * kRowsAtOnce; }
  int rows_;
  const TYPE *a_[kA], *b_[kB];
};

// The sums of a block by wgmma or mma.sync, which hold them in the same way.
template <class T>
struct TensorSums {
  static constexpr int kM = ROWS / WARPS_M / 16, kN = greater(COLUMNS / WARPS_N / 8, 2);
  float at[kM][kN][4] = {};

  static __device__ __forceinline__ int first_row() {
    const int warp = threadIdx.x / 32;
    return (WARPGROUPS ? warp % WARPS_M : warp / WARPS_N) * (16 * kM);
  }
  static __device__ __forceinline__ int first_column() {
    const int warp = threadIdx.x / 32;
    return (WARPGROUPS ? warp / WARPS_M : warp % WARPS_N) * (8 * kN);
  }

#if WARPGROUPS
  __device__ __forceinline__ void multiply(const unsigned char* a, const unsigned char* b, int rows) {
    const int row = first_row() / 64 * 64;
    if (row >= rows) return;  // leaves the tensor cores to the other warps
    const uint64 as = describe_tile(a + row * 128), bs = describe_tile(b + first_column() * 128);
    begin_products();
#pragma unroll
    for (int step = 0; step < 4; ++step)
      Wgmma<T, 8 * kN>::run(reinterpret_cast<float(&)[4 * kN]>(at), as + 2 * step, bs + 2 * step, true);
    commit_products();
    wait_for_products<1>();
  }
  __device__ __forceinline__ void finish() {
    wait_for_products<0>();
    hold(reinterpret_cast<float(&)[4 * kN]>(at));
  }
  // What ordinary copies wrote becomes visible to wgmma.
  static __device__ __forceinline__ void publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
#else
  __device__ __forceinline__ void multiply(const unsigned char* a_slice, const unsigned char* b_slice, int rows) {
    if (first_row() >= rows) return;
    const uint32 a = shared_address(a_slice), b = shared_address(b_slice);
    const int lane = threadIdx.x % 32, matrix = lane / 8;
    const int a_row = first_row() + matrix % 2 * 8 + lane % 8, b_row = first_column() + matrix / 2 * 8 + lane % 8;
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      uint32 as[kM][4], bs[kN / 2][4];
#pragma unroll
      for (int i = 0; i < kM; ++i) load_matrices(as[i], a + chunk_offset(a_row + 16 * i, 2 * step + matrix / 2));
#pragma unroll
      for (int i = 0; i < kN / 2; ++i) load_matrices(bs[i], b + chunk_offset(b_row + 16 * i, 2 * step + matrix % 2));
#pragma unroll
      for (int i = 0; i < kM; ++i)
#pragma unroll
        for (int j = 0; j < kN; ++j) multiply_add(T{}, at[i][j], as[i], bs[j / 2][j % 2 * 2], bs[j / 2][j % 2 * 2 + 1]);
    }
  }
  static __device__ __forceinline__ void finish() {}
  static __device__ __forceinline__ void publish() {}
#endif

  // f(row, column, sum, sum of the next column) for all of this thread.
  template <class F>
  __device__ __forceinline__ void each(F f) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kM; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int j = 0; j < kN; ++j)
          f(first_row() + 16 * i + 8 * half + lane / 4, first_column() + 8 * j + lane % 4 * 2, at[i][j][2 * half],
            at[i][j][2 * half + 1]);
  }
  // f(row, output, gate, up, the same of the next output).
  template <class F>
  __device__ __forceinline__ void each_pair(F f) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kM; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int j = 0; j < kN; j += 2) {
          const float *gate = at[i][j] + 2 * half, *up = at[i][j + 1] + 2 * half;
          f(first_row() + 16 * i + 8 * half + lane / 4, first_column() / 2 + 4 * j + lane % 4 * 2, gate[0], up[0],
            gate[1], up[1]);
        }
  }
};

// The same by FMAs: 16 x 16 threads, each with every 16th row and column.
struct FmaSums {
  static constexpr int kM = ROWS / 16, kN = COLUMNS / 16;
  float at[kM][kN] = {};

  __device__ __forceinline__ void multiply(const unsigned char* a, const unsigned char* b, int rows) {
    const int row = threadIdx.x / 16, column = threadIdx.x % 16;
#pragma unroll
    for (int chunk = 0; chunk < 8; ++chunk) {
      Pack<float, 4> bs[kN];
#pragma unroll
      for (int j = 0; j < kN; ++j) bs[j] = chunk_at(b, column + 16 * j, chunk);
#pragma unroll
      for (int i = 0; i < kM; ++i) {
        if (16 * i >= rows) break;
        const Pack<float, 4> as = chunk_at(a, row + 16 * i, chunk);
#pragma unroll
        for (int j = 0; j < kN; ++j)
#pragma unroll
          for (int k = 0; k < 4; ++k) at[i][j] += as.at[k] * bs[j].at[k];
      }
    }
  }
  static __device__ __forceinline__ void finish() {}
  static __device__ __forceinline__ void publish() {}
  static __device__ __forceinline__ Pack<float, 4> chunk_at(const unsigned char* slice, int row, int chunk) {
    return load_pack<4>(reinterpret_cast<const float*>(slice + chunk_offset(row, chunk)));
  }

  template <class F>
  __device__ __forceinline__ void each(F f) const {
#pragma unroll
    for (int i = 0; i < kM; ++i)
#pragma unroll
      for (int j = 0; j < kN; ++j) f(threadIdx.x / 16 + 16 * i, threadIdx.x % 16 + 16 * j, at[i][j]);
  }
  template <class F>
  __device__ __forceinline__ void each_pair(F f) const {
#pragma unroll
    for (int i = 0; i < kM; ++i)
#pragma unroll
      for (int j = 0; j < kN; j += 2) f(threadIdx.x / 16 + 16 * i, threadIdx.x % 16 + 8 * j, at[i][j], at[i][j + 1]);
  }
};

template <bool TENSOR>
struct SumsOf {
  using type = TensorSums<TYPE>;
};
template <>
struct SumsOf<false> {
  using type = FmaSums;
};
using Sums = typename SumsOf<kTensor>::type;

template <int K, int B_K>
__device__ __forceinline__ void multiply(const Copier<K, B_K>& copier, int rows, Sums& sums) {
  constexpr int kSlices = ceil_div(K, kSlice);
#pragma unroll
  for (int slice = 0; slice < kAhead; ++slice) {
    if (slice < kSlices) copier.copy(slice);
    commit_copies();
  }
  for (int slice = 0; slice < kSlices; ++slice) {
    wait_for_copies<kAhead - 1>();
    Sums::publish();
    __syncthreads();
    // All have read what lies in the place that is filled now.
    if (slice + kAhead < kSlices) copier.copy(slice + kAhead);
    commit_copies();
    const unsigned char* a = stages + slice % STAGES * kStageBytes;
    sums.multiply(a, a + ROWS * 128, rows);
  }
  sums.finish();
}

extern "C" __global__ void __launch_bounds__(kThreads)
    gate_up(const TYPE* x, const TYPE* weights, const int* order, const Tile* tiles, TYPE* inner) {
  allow_next();
  wait_for_previous();
  const Tile tile = tiles[blockIdx.x];
  if (tile.begin == tile.end) return;
  constexpr int kOutputs = COLUMNS / 2;
  const int first = blockIdx.y * kOutputs;
  const TYPE* matrix = weights + int64(tile.expert) * (2 * INNER) * HIDDEN;
  const auto a_row = [&](int i) { return x + int64(order[smaller(tile.begin + i, tile.end - 1)] / TOP_K) * HIDDEN; };
  const auto b_row = [&](int i) {
    const int output = first + i / (2 * kHalf) * kHalf + i % kHalf, up = i / kHalf % 2;
    return matrix + int64(up * INNER + smaller(output, INNER - 1)) * HIDDEN;
  };
  Sums sums;
  multiply(Copier<HIDDEN, HIDDEN>(tile.end - tile.begin, a_row, b_row), tile.end - tile.begin, sums);
  const auto place = [&](int row, int output) {
    return inner + int64(tile.begin + row) * (kParts * INNER) + first + output;
  };
  const auto wanted = [&](int row, int output) { return tile.begin + row < tile.end && first + output < INNER; };
  if constexpr (kTensor) {
    sums.each_pair([&](int row, int output, float gate, float up, float next_gate, float next_up) {
      if (!wanted(row, output)) return;
      float results[2] = {FUNCTION::of(gate) * up, FUNCTION::of(next_gate) * next_up};
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        TYPE* y = place(row, output) + part * INNER;
        store_floats<2>(y, results);
        results[0] -= to_float(from_float<TYPE>(results[0]));
        results[1] -= to_float(from_float<TYPE>(results[1]));
      }
    });
  } else {
    sums.each_pair([&](int row, int output, float gate, float up) {
      if (wanted(row, output)) *place(row, output) = from_float<TYPE>(FUNCTION::of(gate) * up);
    });
  }
}

extern "C" __global__ void __launch_bounds__(kThreads)
    down(const TYPE* inner, const TYPE* weights, const float* pair_weights, const int* order, const Tile* tiles,
         float* partial) {
  allow_next();
  wait_for_previous();
  const Tile tile = tiles[blockIdx.x];
  if (tile.begin == tile.end) return;
  const int first = blockIdx.y * COLUMNS;
  const TYPE* matrix = weights + int64(tile.expert) * HIDDEN * INNER;
  const auto a_row = [&](int i) { return inner + int64(tile.begin + i) * (kParts * INNER); };
  const auto b_row = [&](int i) { return matrix + int64(smaller(first + i, HIDDEN - 1)) * INNER; };
  Sums sums;
  multiply(Copier<kParts * INNER, INNER>(tile.end - tile.begin, a_row, b_row), tile.end - tile.begin, sums);
  const auto store = [&](int row, int column, auto... results) {
    if (tile.begin + row >= tile.end || first + column >= HIDDEN) return;
    const int pair = order[tile.begin + row];
    const float weight = pair_weights[pair], scaled[] = {weight * results...};
    store_floats<sizeof...(results)>(partial + int64(pair) * HIDDEN + first + column, scaled);
  };
  sums.each(store);
}

extern "C" __global__ void __launch_bounds__(256) combine(const float* partial, TYPE* y, int tokens) {
  constexpr uint32 kRowPacks = HIDDEN / 4;
  allow_next();
  const uint32 pack = blockIdx.x * 256 + threadIdx.x, token = pack / kRowPacks;
  wait_for_previous();
  if (token >= uint32(tokens)) return;
  const uint32 column = (pack - token * kRowPacks) * 4;
  float sum[4] = {};
#pragma unroll
  for (int j = 0; j < TOP_K; ++j) {
    float part[4];
    load_floats<4>(partial + (int64(token) * TOP_K + j) * HIDDEN + column, part);
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i] += part[i];
  }
  store_floats<4>(y + int64(token) * HIDDEN + column, sum);
}
