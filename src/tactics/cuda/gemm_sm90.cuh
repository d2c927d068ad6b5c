// y = function(x · wᵀ + bias) + residual on Hopper: x [rows, k], w [n, k] of type T; y [rows, n] of type Y. Gated:
// y [rows, n / 2] = function(gate) * up, where the first half of the rows of w makes gate, the second up.
//
// A block makes TILE_M x TILE_N of y at a time. One thread of its last warpgroup keeps a ring of STAGES steps of 64
// along k filled with tiles of x and w by the copy engine, across the ends of tiles; every other warpgroup multiplies
// 64 or 128 rows by TILE_N columns from there (wgmma) and holds the sums in registers. While one warpgroup stores its
// sums the copies go on and the other warpgroups may still multiply. The blocks stay and take tile after tile, few rows
// of tiles at a time, so that those in flight share x and w in the second cache.
//
// A cluster is CLUSTER_M x CLUSTER_N blocks of neighbouring tiles, each of which loads a part of the x and w that they
// share and sends it to all, times CLUSTER_K blocks that each sum a part of k for the same tile: at the end each takes
// a part of the columns, receives its sums from the others and adds them up in the order of k.
//
// A gated tile holds, for every part of it that is loaded or stored by a block of its own, columns of gate and then as
// many of up: the thread that sums one has the other too.
//
// Compiled with T, Y, TILE_M (a multiple of 64 WARPGROUPS), WARPGROUPS (1 .. 3), TILE_N (a multiple of 16 CLUSTER_K, at
// most 256), STAGES, CLUSTER_M, CLUSTER_N, CLUSTER_K, FUNCTION, GATED (0 or 1), BIAS (its type; absent: no bias),
// RESIDUAL (0 or 1). The maps of x and w have boxes of 64 columns by TILE_M / CLUSTER_N and TILE_N / CLUSTER_M rows,
// swizzle 128; that of a gated w is [k, n / 2, 2] with boxes of [64, TILE_N / (2 CLUSTER_M CLUSTER_K), 2]. k is a
// multiple of 8, of at least CLUSTER_K steps. Blocks: a multiple of the cluster, all of which run at the same time.
// Threads: 128 (WARPGROUPS + 1).
#include "device/activation.cuh"
#include "device/tma.cuh"
#include "device/wgmma.cuh"

namespace {

constexpr int kWarpgroups = WARPGROUPS, kWarps = 4 * kWarpgroups;  // that multiply
constexpr int kBlocks = TILE_M / 64 / kWarpgroups;                 // of 64 rows, of a warpgroup
constexpr int kThreads = 128 * (kWarpgroups + 1);
constexpr bool kMoveRegisters = kWarpgroups > 1 && RESIDENT == 1;
constexpr int kCluster = CLUSTER_M * CLUSTER_N * CLUSTER_K;
constexpr int kSharers = CLUSTER_M + CLUSTER_N - 1;  // blocks that load x or w for this one, itself included
constexpr int kStep = 64, kStepBytes = 128;          // along k
constexpr int kXBytes = TILE_M * kStepBytes, kStageBytes = kXBytes + TILE_N * kStepBytes;
constexpr int kColumns = TILE_N / CLUSTER_K;                 // that a block stores
constexpr int kSums = kColumns / 2;                          // of a thread
constexpr int kPair = TILE_N / (2 * CLUSTER_M * CLUSTER_K);  // gated: columns of gate, and of up, next to each other
constexpr int kColumnsEach = GATED ? 2 : 1, kStored = kColumns / kColumnsEach;  // of y
constexpr int kOutColumns = kStored % 64 == 0 ? 64 : kStored % 32 == 0 ? 32 : 16;
constexpr int kOutBytes = sizeof(Y) == 2 ? 16 * kOutColumns * 2 : 0;  // a warp's piece of y on its way out
constexpr int kPartBytes = (CLUSTER_K - 1) * TILE_M * kColumns * 4;
constexpr int kGroupM = 16 / CLUSTER_M > 0 ? 16 / CLUSTER_M : 1;  // rows of clusters that are worked on together

static_assert(TILE_M == 64 * kBlocks * kWarpgroups && (CLUSTER_K == 1 || kBlocks == 1));
static_assert(TILE_N % (8 * CLUSTER_M) == 0 && kStored % 16 == 0);
static_assert(!GATED || (kPair % 8 == 0 && (CLUSTER_M == 1 || CLUSTER_K == 1) && !RESIDUAL));

struct Shared {
  char* stages;
  char* parts;  // sums of other blocks
  char* out;
  Mbarrier* full;
  Mbarrier* empty;
  Mbarrier* parts_full;
  Mbarrier* parts_free;

  __device__ explicit Shared(char* memory) {
    stages = memory + (1024 - shared_address(memory) % 1024) % 1024;
    out = stages + STAGES * kStageBytes;
    parts = out + kWarps * kOutBytes;
    full = reinterpret_cast<Mbarrier*>(parts + kPartBytes);
    empty = full + STAGES;
    parts_full = empty + STAGES;
    parts_free = parts_full + 1;
  }
};

// A block's place in its cluster.
struct Place {
  int m, n, k;
  __device__ explicit Place(int rank)
      : m(rank / CLUSTER_N % CLUSTER_M), n(rank % CLUSTER_N), k(rank / (CLUSTER_N * CLUSTER_M)) {}
};
__device__ __forceinline__ int rank_of(int m, int n, int k) { return (k * CLUSTER_M + m) * CLUSTER_N + n; }

// Place in the ring.
struct Cursor {
  int stage = 0;
  uint32 parity = 0;
  __device__ void advance() {
    if (++stage == STAGES) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// The clusters' tiles in the order in which they are worked on, and this block's part of them.
struct Tiles {
  int across_m, across_n, first_step, steps;
  Place place;
  __device__ Tiles(int rows, int n, int k, Place place_) : place(place_) {
    across_m = (rows + TILE_M * CLUSTER_M - 1) / (TILE_M * CLUSTER_M);
    across_n = (n + TILE_N * CLUSTER_N - 1) / (TILE_N * CLUSTER_N);
    int all = (k + kStep - 1) / kStep;
    first_step = all * place.k / CLUSTER_K;
    steps = all * (place.k + 1) / CLUSTER_K - first_step;
  }
  __device__ int count() const { return across_m * across_n; }
  __device__ void find(int tile, int& row, int& column) const {
    int group = tile / (kGroupM * across_n), first = group * kGroupM;
    int height = min(kGroupM, across_m - first), in_group = tile - first * across_n;
    row = ((first + in_group % height) * CLUSTER_M + place.m) * TILE_M;
    column = (in_group / height * CLUSTER_N + place.n) * TILE_N;
  }
};

__device__ __forceinline__ void load_x(const Shared& shared, const TensorMap& map, const Place& place, int stage, int k,
                                       int row) {
  constexpr int kRows = TILE_M / CLUSTER_N;
  char* target = shared.stages + stage * kStageBytes + place.n * kRows * kStepBytes;
  row += place.n * kRows;
  if constexpr (CLUSTER_N == 1) {
    load_box(target, map, shared.full + stage, k, row);
  } else {
    uint16 blocks = ((1 << CLUSTER_N) - 1) << rank_of(place.m, 0, place.k);
    load_box_in_cluster(target, map, shared.full + stage, k, row, blocks);
  }
}

// The blocks that share this one's w.
__device__ __forceinline__ uint16 blocks_along_m(const Place& place) {
  uint16 blocks = 0;
#pragma unroll
  for (int m = 0; m < CLUSTER_M; ++m) blocks |= 1 << rank_of(m, place.n, place.k);
  return blocks;
}

__device__ __forceinline__ void load_w(const Shared& shared, const TensorMap& map, const Place& place, int stage, int k,
                                       int column, uint64 policy) {
  char* tile = shared.stages + stage * kStageBytes + kXBytes;
  Mbarrier* full = shared.full + stage;
  if constexpr (GATED) {
#pragma unroll
    for (int part = 0; part < CLUSTER_K; ++part) {
      char* target = tile + (place.m + part) * 2 * kPair * kStepBytes;
      int output = column / 2 + (place.m + part) * kPair;
      if constexpr (CLUSTER_M == 1)
        load_box(target, map, full, k, output, 0, policy);
      else
        load_box_in_cluster(target, map, full, k, output, 0, blocks_along_m(place), policy);
    }
  } else {
    constexpr int kRows = TILE_N / CLUSTER_M;
    char* target = tile + place.m * kRows * kStepBytes;
    column += place.m * kRows;
    if constexpr (CLUSTER_M == 1)
      load_box(target, map, full, k, column, policy);
    else
      load_box_in_cluster(target, map, full, k, column, blocks_along_m(place), policy);
  }
}

// Keeps the ring filled. Weights do not wait for the kernel in front.
__device__ __forceinline__ void produce(const Shared& shared, const TensorMap& x_map, const TensorMap& w_map,
                                        const Tiles& tiles, int first_tile, int stride) {
  const Place& place = tiles.place;
  uint64 policy = tiles.across_m == 1 ? kEvictFirst : kEvictNormal;
  int ahead = first_tile < tiles.count() ? min(STAGES, tiles.steps) : 0;
  int row, column;
  tiles.find(first_tile, row, column);
  for (int step = 0; step < ahead; ++step) {
    arrive_and_expect(shared.full + step, kStageBytes);
    load_w(shared, w_map, place, step, (tiles.first_step + step) * kStep, column, policy);
  }
  wait_for_previous();
  Cursor cursor;
  for (int tile = first_tile; tile < tiles.count(); tile += stride) {
    tiles.find(tile, row, column);
    for (int step = 0; step < tiles.steps; ++step, cursor.advance()) {
      int k = (tiles.first_step + step) * kStep;
      if (ahead > 0) {
        --ahead;
      } else {
        wait(shared.empty + cursor.stage, cursor.parity ^ 1);
        arrive_and_expect(shared.full + cursor.stage, kStageBytes);
        load_w(shared, w_map, place, cursor.stage, k, column, policy);
      }
      load_x(shared, x_map, place, cursor.stage, k, row);
    }
  }
  // No block leaves while others may still give back stages of its ring: a barrier of the cluster would not wait for
  // it.
  if constexpr (kSharers > 1)
    for (int i = 0; i < STAGES; ++i, cursor.advance()) wait(shared.empty + cursor.stage, cursor.parity ^ 1);
}

// What a warpgroup needs to use the ring.
struct Consumer {
  Cursor cursor;
  int warpgroup;
  int sharer;  // the block that this thread tells of stages given back, if it is one of the first kSharers

  __device__ __forceinline__ void give_back(const Shared& shared, int stage) {
    int thread = threadIdx.x % 128;
    if constexpr (kSharers == 1) {
      if (thread == 0) arrive(shared.empty + stage);
    } else {
      if (thread < kSharers) arrive_in(shared.empty + stage, sharer);
    }
  }
};

// Starts a warpgroup's products over its steps; those of the last one may still run at the end, and its stage, which is
// returned, has to be given back then. A stage is given back when the products of the next one have been started. What
// `meanwhile` does costs no time.
template <class F>
__device__ __forceinline__ int multiply(float (&acc)[kBlocks][TILE_N / 2], const Shared& shared, Consumer& consumer,
                                        int steps, F meanwhile) {
  int previous = 0;
  Cursor& cursor = consumer.cursor;
  uint64 x_first = describe_tile(shared.stages + consumer.warpgroup * kBlocks * 64 * kStepBytes);
  uint64 w_first = describe_tile(shared.stages + kXBytes);
  for (int step = 0; step < steps; ++step) {
    wait(shared.full + cursor.stage, cursor.parity);
    uint64 x = x_first + cursor.stage * (kStageBytes / 16), w = w_first + cursor.stage * (kStageBytes / 16);
    begin_products();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int b = 0; b < kBlocks; ++b)
        Wgmma<T, TILE_N>::run(acc[b], x + b * (64 * kStepBytes / 16) + 2 * i, w + 2 * i, step > 0 || i > 0);
    }
    commit_products();
    if (step == 0) meanwhile();
    wait_for_products<1>();
    if (step > 0) consumer.give_back(shared, previous);
    previous = cursor.stage;
    cursor.advance();
  }
  return previous;
}

#if CLUSTER_K > 1
// Exchanges sums with the blocks that sum the other parts of k; `turn` counts the tiles.
__device__ __forceinline__ void exchange(float (&own)[kSums], const float (&acc)[TILE_N / 2], const Shared& shared,
                                         const Place& place, int turn) {
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  auto offset = [&](int slot) { return ((slot * kWarps + warp) * (kSums / 4) * 32 + lane) * 16; };
  if (threadIdx.x == 0) arrive_and_expect(shared.parts_full, kPartBytes);
  if (turn > 0) wait(shared.parts_free, (turn - 1) & 1);
#pragma unroll
  for (int part = 0; part < CLUSTER_K; ++part) {
    const float* sums = acc + part * kSums;
    if (part == place.k) {
#pragma unroll
      for (int i = 0; i < kSums; ++i) own[i] = sums[i];
      continue;
    }
    int rank = rank_of(place.m, place.n, part);
    uint32 barrier = address_in(shared.parts_full, rank);
    uint32 target = address_in(shared.parts, rank) + offset(place.k - int(place.k > part));
#pragma unroll
    for (int i = 0; i < kSums; i += 4)
      store_in_cluster(target + i / 4 * 512, barrier, make_float4(sums[i], sums[i + 1], sums[i + 2], sums[i + 3]));
  }
  wait(shared.parts_full, turn & 1);
#pragma unroll
  for (int i = 0; i < kSums; i += 4) {
    float4 mine = make_float4(own[i], own[i + 1], own[i + 2], own[i + 3]), sum = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int part = 0; part < CLUSTER_K; ++part) {
      float4 v = mine;
      if (part != place.k)
        v = *reinterpret_cast<float4*>(shared.parts + offset(part - int(part > place.k)) + i / 4 * 512);
      sum = make_float4(sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w);
    }
    own[i] = sum.x, own[i + 1] = sum.y, own[i + 2] = sum.z, own[i + 3] = sum.w;
  }
  __syncwarp();
  if (lane < CLUSTER_K && lane != place.k) arrive_in(shared.parts_free, rank_of(place.m, place.n, lane));
}

#endif

// Two columns of one row, either of which may lie outside.
template <class S>
__device__ __forceinline__ float2 load_two(const S* p, bool paired, bool first, bool second) {
  if (paired && first) {
    Pack<S, 2> v = load_pack<2>(p);
    return {to_float(v.at[0]), to_float(v.at[1])};
  }
  return {first ? to_float(p[0]) : 0.0f, second ? to_float(p[1]) : 0.0f};
}
template <class S>
__device__ __forceinline__ void store_two(S* p, float2 v, bool paired, bool first, bool second) {
  if (paired && first) {
    store_pack<2>(p, Pack<S, 2>{from_float<S>(v.x), from_float<S>(v.y)});
    return;
  }
  if (first) p[0] = from_float<S>(v.x);
  if (second) p[1] = from_float<S>(v.y);
}

using Function = ForResult<FUNCTION, Y>;

struct Output {
  const void* bias;
  const Y* residual;
  Y* y;
  int rows, n;  // n: columns of y
};

#if GATED
// function(gate) * up in the place of the first half of the sums, for the block's columns of y from `column`.
__device__ __forceinline__ void finish(float (&sums)[kSums], const Output& output, int, int column) {
  column += threadIdx.x % 4 * 2;
#pragma unroll
  for (int i = 0; i < kSums / 2; i += 4) {
    int from = i + i / (kPair / 2) * (kPair / 2);  // the gate's; up follows kPair columns behind
    float gate[4], up[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) gate[j] = sums[from + j], up[j] = sums[from + kPair / 2 + j];
#ifdef BIAS
    int at = column + i * 2;
    bool first = at < output.n, second = at + 1 < output.n, paired = output.n % 2 == 0;
    const BIAS* bias = static_cast<const BIAS*>(output.bias) + at;
    float2 gate_bias = load_two(bias, paired, first, second);
    float2 up_bias = load_two(bias + output.n, paired, first, second);
#pragma unroll
    for (int half = 0; half < 4; half += 2) {
      gate[half] += gate_bias.x, gate[half + 1] += gate_bias.y;
      up[half] += up_bias.x, up[half + 1] += up_bias.y;
    }
#endif
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[i + j] = Function::of(gate[j]) * up[j];
  }
}
#else

// function(sums + bias) + residual in place, for the warp's 16 rows from `row` and the block's columns from `column`.
__device__ __forceinline__ void finish(float (&sums)[kSums], const Output& output, int row, int column) {
  int lane = threadIdx.x % 32;
  row += lane / 4;
  column += lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < kSums; i += 4) {
    int at = column + i * 2;
    bool first = at < output.n, second = at + 1 < output.n, paired = output.n % 2 == 0;
#ifdef BIAS
    float2 bias = load_two(static_cast<const BIAS*>(output.bias) + at, paired, first, second);
#pragma unroll
    for (int half = 0; half < 2; ++half) sums[i + 2 * half] += bias.x, sums[i + 2 * half + 1] += bias.y;
#endif
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float2 v = {Function::of(sums[i + 2 * half]), Function::of(sums[i + 2 * half + 1])};
      if constexpr (RESIDUAL) {
        int r = row + 8 * half;
        bool inside = r < output.rows;
        float2 more = load_two(output.residual + int64(r) * output.n + at, paired, first && inside, second && inside);
        v.x += more.x, v.y += more.y;
      }
      sums[i + 2 * half] = v.x, sums[i + 2 * half + 1] = v.y;
    }
  }
}
#endif

// From registers to y.
__device__ __forceinline__ void store_direct(const float (&sums)[kSums], const Output& output, int row, int column) {
  int lane = threadIdx.x % 32;
  row += lane / 4;
  column += lane % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int r = row + 8 * half;
    if (r >= output.rows) continue;
    Y* y = output.y + int64(r) * output.n;
#pragma unroll
    for (int i = 0; i < kStored / 2; i += 4) {
      int at = column + i * 2;
      store_two(y + at, {sums[i + 2 * half], sums[i + 2 * half + 1]}, output.n % 2 == 0, at < output.n,
                at + 1 < output.n);
    }
  }
}

// Through the warp's own shared memory, so that it stores whole sectors; n is a multiple of 8, S has 2 bytes.
template <class S>
__device__ __forceinline__ void store_staged(const float (&sums)[kSums], const Output& output, S* y, char* staging,
                                             int row, int column) {
  constexpr int kWidth = kOutColumns * 2, kPacks = kOutColumns / 8;  // of 16 bytes in a row
  int lane = threadIdx.x % 32;
  uint32 mask = (lane % 16 * kWidth >> 7 & (kPacks - 1)) << 4;
  row += lane / kPacks;
  column += lane % kPacks * 8;
  y += int64(row) * output.n + column;
#pragma unroll
  for (int chunk = 0; chunk < kStored; chunk += kOutColumns) {
    __syncwarp();
#pragma unroll
    for (int c = 0; c < kOutColumns; c += 16) {
      const float* s = sums + (chunk + c) / 2;
      uint32 offset = lane % 16 * kWidth + (((c + lane / 16 * 8) * 2) ^ mask);
      store_matrices(staging + offset, pair_from_float(S{}, s[0], s[1]), pair_from_float(S{}, s[2], s[3]),
                     pair_from_float(S{}, s[4], s[5]), pair_from_float(S{}, s[6], s[7]));
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kPacks / 2; ++i) {
      int r = i * (32 / kPacks);
      uint4 pack = *reinterpret_cast<uint4*>(staging + swizzled<kWidth>((i * 32 + lane) * 16));
      if (row + r < output.rows && column + chunk < output.n)
        *reinterpret_cast<uint4*>(y + int64(r) * output.n + chunk) = pack;
    }
  }
}

template <class S>
__device__ __forceinline__ void store(float (&sums)[kSums], const Output& output, S* y, const Shared& shared, int row,
                                      int column) {
  finish(sums, output, row, column);
  if constexpr (kOutBytes > 0) {
    if (output.n % 8 == 0) {
      store_staged(sums, output, y, shared.out + threadIdx.x / 32 * kOutBytes, row, column);
      return;
    }
  }
  store_direct(sums, output, row, column);
}

__device__ __forceinline__ void consume(const Shared& shared, const Tiles& tiles, const Output& output, int first_tile,
                                        int stride) {
  int warp = threadIdx.x / 32, thread = threadIdx.x % 128;
  const Place& place = tiles.place;
  Consumer consumer;
  consumer.warpgroup = __shfl_sync(0xffffffffu, warp / 4, 0);  // known to be the same in all lanes
  consumer.sharer = thread < CLUSTER_M
                        ? rank_of(thread, place.n, place.k)
                        : rank_of(place.m, thread - CLUSTER_M + int(thread - CLUSTER_M >= place.n), place.k);
  int turn = 0;
  for (int tile = first_tile; tile < tiles.count(); tile += stride, ++turn) {
    float acc[kBlocks][TILE_N / 2];
    int row, column;
    int last = multiply(acc, shared, consumer, tiles.steps, [&] { tiles.find(tile, row, column); });
    row += warp / 4 * kBlocks * 64 + warp % 4 * 16;
    column = column / kColumnsEach + place.k * kStored;
    wait_for_products<0>();
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) hold(acc[b]);
    consumer.give_back(shared, last);
#if CLUSTER_K == 1
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) store(acc[b], output, output.y, shared, row + b * 64, column);
#else
    float own[kSums];
    exchange(own, acc[0], shared, place, turn);
    store(own, output, output.y, shared, row, column);
#endif
  }
  // Nor while they may still say that they have read its parts.
  if constexpr (CLUSTER_K > 1)
    if (turn > 0) wait(shared.parts_free, (turn - 1) & 1);
}

__device__ __forceinline__ void prepare(const Shared& shared) {
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < STAGES; ++stage) {
      init_barrier(shared.full + stage, 1);
      init_barrier(shared.empty + stage, kWarpgroups * kSharers);
    }
    init_barrier(shared.parts_full, 1);
    init_barrier(shared.parts_free, (CLUSTER_K - 1) * kWarps + int(CLUSTER_K == 1));
    publish_barriers();
  }
  __syncthreads();
  if constexpr (kCluster > 1) sync_cluster();
}

}  // namespace

// Residual and bias may be null where they are not used.
extern "C" __global__ void __launch_bounds__(kThreads, RESIDENT)
    gemm(const __grid_constant__ TensorMap x_map, const __grid_constant__ TensorMap w_map, const void* bias,
         const Y* residual, Y* y, int rows, int n, int k) {
  extern __shared__ char memory[];
  Shared shared(memory);
  allow_next();
  prepare(shared);
  Place place(kCluster > 1 ? cluster_rank() : 0);
  Tiles tiles(rows, n, k, place);
  int first_tile = blockIdx.x / kCluster, stride = gridDim.x / kCluster;
  if (threadIdx.x / 128 == kWarpgroups) {
    if constexpr (kMoveRegisters) give_registers<kWarpgroups == 2 ? 40 : 32>();
    if (threadIdx.x / 32 == kWarps && elect_one()) produce(shared, x_map, w_map, tiles, first_tile, stride);
    __syncwarp();
  } else {
    if constexpr (kMoveRegisters) take_registers<kWarpgroups == 2 ? 232 : 160>();
    wait_for_previous();
    consume(shared, tiles, Output{bias, residual, y, rows, n / kColumnsEach}, first_tile, stride);
    __syncwarp();
  }
}
