// Attention of sequences with several tokens on Hopper: y = softmax(mask(scale q k^T)) v over paged K and V, for bf16
// and f16 states, by products of warpgroups.
//
// A block takes 64 rows per consumer warpgroup (attention_rows.cuh). A warp of the first warpgroup only copies: it
// gathers tiles of CHUNK_TILE positions from the pages into rings of K and V, CHUNK_STAGES deep. A consumer starts the
// product of q with the next tile of K before it waits for that of the weights with V, so that the softmax of one runs
// beside the products of others. Sums and weights stay in registers.
//
// #defines: those of attention_step.cuh, CHUNK_GROUPS (consumers), CHUNK_TILE, CHUNK_STAGES. HEAD
// and V_HEAD are multiples of 16, PAGE of 8. The maps of K and V are matrices with a row per vector of the pool, boxes
// of 64 elements by kRun rows, the 128-byte swizzle. Block: 128 * (CHUNK_GROUPS + 1) threads. Dynamic shared memory:
// 1024 bytes to align, then rows of 128 bytes for every 64 elements begun: 64 * CHUNK_GROUPS of q, CHUNK_STAGES *
// CHUNK_TILE of K and of V.
#include "attention_rows.cuh"
#include "device/tma.cuh"
#include "device/wgmma.cuh"

namespace attention {

constexpr int kRows = CHUNK_GROUPS * 64, kTile = CHUNK_TILE, kStages = CHUNK_STAGES;
constexpr int kKBlocks = ceil_div(HEAD, 64), kVBlocks = ceil_div(V_HEAD, 64);  // of 64 elements
constexpr int kQBlockBytes = kRows * 128, kTileBlockBytes = kTile * 128;
constexpr int kKBytes = kKBlocks * kTileBlockBytes, kVBytes = kVBlocks * kTileBlockBytes;
// Registers of a thread: a block has all of the multiprocessor's 64 K.
constexpr int kProducerRegisters = CHUNK_GROUPS == 3 ? 32 : CHUNK_GROUPS == 2 ? 24 : 56;
constexpr int kConsumerRegisters = CHUNK_GROUPS == 3 ? 160 : CHUNK_GROUPS == 2 ? 240 : 248;

// Where 16 bytes `chunk` of row `row` lie in a tile of blocks of 64 elements.
__device__ __forceinline__ int place_of(int row, int chunk, int block_bytes) {
  return chunk / 8 * block_bytes + swizzled<128>(row * 128 + chunk % 8 * 16);
}

struct Barriers {
  Mbarrier k_full[kStages], k_free[kStages], v_full[kStages], v_free[kStages];
};

// One arrival for a whole warp: those of all threads would queue up.
__device__ __forceinline__ void arrive_once(Mbarrier* barrier) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) arrive(barrier);
}

// The place in a ring, and the parity of its round.
struct Turn {
  int stage = 0;
  uint32 parity = 0;
  __device__ __forceinline__ void next() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

// --- the warp that copies
// ---------------------------------------------------------------------------------------------

// Positions that one copy brings: they follow each other in memory.
constexpr int kRun = greatest_divisor(PAGE, kTile), kRuns = kTile / kRun;
static_assert(kRun % 8 == 0 && 32 % kRuns == 0, "eight rows are the period of the swizzle");

struct Producer {
  const Step& step;
  Barriers& barriers;
  Span span;
  int kv_head, page_begin;

  // The row of the state's matrix of vectors where lane l's copies of a tile begin: lane l makes those of run
  // l % kRuns. What no row sees is read from in front of the matrix: as zeros.
  __device__ __forceinline__ int row_of(int slot) const {
    int at = slot + threadIdx.x % kRuns * kRun;
    if (at >= span.end_slot || at + kRun <= span.first_slot) return -kRun;
    return (step.page_list[page_begin + at / PAGE] * KV_HEADS + kv_head) * PAGE + at % PAGE;
  }

  template <int BLOCKS>
  __device__ __forceinline__ void copy_tile(unsigned char* target, const TensorMap& map, int row, Mbarrier* full) {
    int lane = threadIdx.x;
    if (lane == 0) arrive_and_expect(full, BLOCKS * kTileBlockBytes);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < ceil_div(BLOCKS * kRuns, 32); ++i) {
      int block = i * (32 / kRuns) + lane / kRuns;
      if (block < BLOCKS)
        load_box(target + block * kTileBlockBytes + lane % kRuns * kRun * 128, map, full, block * 64, row);
    }
  }

  // K of the first tile, K of the second and V of the first, and so on: as consumers need them.
  __device__ __forceinline__ void run(const TensorMap& k, const TensorMap& v, unsigned char* k_ring,
                                      unsigned char* v_ring) {
    int first = span.first_slot / kTile * kTile, row = row_of(first), row_before = row;
    Turn k_turn, v_turn;
    for (int slot = first; slot < span.end_slot + kTile; slot += kTile) {
      int next_row = row_of(slot + kTile);
      if (slot < span.end_slot) {
        wait(&barriers.k_free[k_turn.stage], k_turn.parity ^ 1);
        copy_tile<kKBlocks>(k_ring + k_turn.stage * kKBytes, k, row, &barriers.k_full[k_turn.stage]);
        k_turn.next();
      }
      if (slot > first) {
        wait(&barriers.v_free[v_turn.stage], v_turn.parity ^ 1);
        copy_tile<kVBlocks>(v_ring + v_turn.stage * kVBytes, v, row_before, &barriers.v_full[v_turn.stage]);
        v_turn.next();
      }
      row_before = row, row = next_row;
    }
  }
};

// --- the warpgroups that compute -------------------------------------------------------------------------------------

struct Consumer {
  float sums[V_HEAD / 2];
  float x[kTile / 2];
  uint32 p[kTile / 16][4];
  RowWeights weights;
  int end[2];  // of what this thread's two rows see
  Turn k_turn, v_turn;

  __device__ __forceinline__ void load_q(const Rows& rows, const QT* q, unsigned char* q_shared, int group) {
    constexpr int kChunks = HEAD / 8;
    int thread = threadIdx.x % 128;
#pragma unroll 8
    for (int i = 0; i < kChunks / 2; ++i) {
      int index = i * 128 + thread, row = group * 64 + index / kChunks, chunk = index % kChunks;
      // Rows behind the last repeat it; they are not written.
      const QT* source = q + rows.vector_of(rows.first + min(row, rows.count - 1), HEAD) + chunk * 8;
      uint4 packed = load_eight<KT>(source);
      *reinterpret_cast<uint4*>(q_shared + place_of(row, chunk, kQBlockBytes)) = packed;
    }
    publish_shared();
    sync_threads(1 + group, 128);
    int row = group * 64 + thread / 32 * 16 + thread % 32 / 4;
#pragma unroll
    for (int r = 0; r < 2; ++r) end[r] = rows.end_of(rows.first + min(row + 8 * r, rows.count - 1));
  }

  __device__ __forceinline__ void start_scores(uint64 q, uint64 k) {
#pragma unroll
    for (int i = 0; i < HEAD / 16; ++i)
      Wgmma<KT, kTile>::run(x, q + (i / 4 * (kQBlockBytes >> 4) + i % 4 * 2),
                            k + (i / 4 * (kTileBlockBytes >> 4) + i % 4 * 2), i > 0);
    commit_products();
  }
  // Slots behind the sequence's end hold anything, NaN too, and a weight of zero does not hide that.
  __device__ __forceinline__ void clear_behind(unsigned char* v, int rows_left, int group) {
    if (rows_left % kRun == 0 || rows_left > kTile) return;
    int thread = threadIdx.x % 128, end = ceil_div(rows_left, kRun) * kRun;
    for (int i = rows_left * 8 + thread; i < end * 8; i += 128)
#pragma unroll
      for (int block = 0; block < kVBlocks; ++block)
        *reinterpret_cast<uint4*>(v + block * kTileBlockBytes + i * 16) = {0, 0, 0, 0};
    publish_shared();
    sync_threads(1 + group, 128);
  }

  __device__ __forceinline__ void start_values(uint64 v, bool add) {
    begin_products();
#pragma unroll
    for (int i = 0; i < kTile / 16; ++i) Wgmma<KT, V_HEAD>::template run<1>(sums, p[i], v + i * 128, add || i > 0);
    commit_products();
  }

  __device__ __forceinline__ void make_scores(int slot) {
    int column = slot + (threadIdx.x & 3) * 2;
    bool whole = __all_sync(kAll, slot + kTile <= end[0] && slot >= first_visible(end[1]));
#pragma unroll
    for (int i = 0; i < kTile / 2; ++i) x[i] = score_of(x[i]);
    if (whole) return;
#pragma unroll
    for (int i = 0; i < kTile / 2; ++i) {
      int at = column + i / 4 * 8 + i % 2, r = i % 4 / 2;
      if (at >= end[r] || at < first_visible(end[r])) x[i] = minus_infinity();
    }
  }
  __device__ __forceinline__ void pack_weights() {
#pragma unroll
    for (int i = 0; i < kTile / 16; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) p[i][e] = pair_from_float(KT{}, x[8 * i + 2 * e], x[8 * i + 2 * e + 1]);
  }

  __device__ __forceinline__ void run(Barriers& barriers, Span span, uint64 q, uint64 k, uint64 v,
                                      unsigned char* v_ring, int sequence_end, int group) {
    int slot = span.first_slot / kTile * kTile;
    float factor[2];
#pragma unroll
    for (int i = 0; i < V_HEAD / 2; ++i) sums[i] = 0;
    if (slot >= span.end_slot) return;
    wait(&barriers.k_full[0], 0);
    begin_products();
    start_scores(q, k);
    wait_for_products<0>();
    hold(x);
    arrive_once(&barriers.k_free[0]);
    k_turn.next();
    make_scores(slot);
    weights.weigh(x, factor);
    pack_weights();
    for (slot += kTile; slot < span.end_slot; slot += kTile) {
      wait(&barriers.k_full[k_turn.stage], k_turn.parity);
      begin_products();
      start_scores(q, k + k_turn.stage * (kKBytes >> 4));
      wait(&barriers.v_full[v_turn.stage], v_turn.parity);
      start_values(v + v_turn.stage * (kVBytes >> 4), true);
      wait_for_products<1>();
      hold(x);
      arrive_once(&barriers.k_free[k_turn.stage]);
      k_turn.next();
      make_scores(slot);
      weights.weigh(x, factor);
      wait_for_products<0>();
      hold(sums);
      arrive_once(&barriers.v_free[v_turn.stage]);
      v_turn.next();
      pack_weights();
#pragma unroll
      for (int i = 0; i < V_HEAD / 2; ++i) sums[i] *= factor[i % 4 / 2];
    }
    wait(&barriers.v_full[v_turn.stage], v_turn.parity);
    clear_behind(v_ring + v_turn.stage * kVBytes, sequence_end - (slot - kTile), group);
    start_values(v + v_turn.stage * (kVBytes >> 4), true);
    wait_for_products<0>();
    hold(sums);
  }

  __device__ __forceinline__ void finish(const Rows& rows, QT* y, int group) {
    int thread = threadIdx.x % 128, row = group * 64 + thread / 32 * 16 + thread % 32 / 4;
    float factor[2];
    weights.finish(factor);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (row + 8 * r >= rows.count) continue;
      QT* target = y + rows.vector_of(rows.first + row + 8 * r, V_HEAD) + thread % 4 * 2;
#pragma unroll
      for (int i = 0; i < V_HEAD / 2; i += 4) {
        Pack<QT, 2> pair{from_float<QT>(sums[i + 2 * r] * factor[r]), from_float<QT>(sums[i + 2 * r + 1] * factor[r])};
        store_pack(target + i * 2, pair);
      }
    }
  }
};

}  // namespace attention

extern "C" __global__ void __launch_bounds__(128 * (CHUNK_GROUPS + 1), 1)
    attention_chunk(const QT* q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
                    const int* query_starts, const int* context_lengths, const int* page_starts, const int* page_list,
                    const int* context_starts, QT* y, int sequences) {
  using namespace attention;
  extern __shared__ unsigned char dynamic[];
  __shared__ Barriers barriers;
  unsigned char* q_shared = dynamic + (-shared_address(dynamic) & 1023);
  unsigned char *k_ring = q_shared + kKBlocks * kQBlockBytes, *v_ring = k_ring + kStages * kKBytes;
  allow_next();
  if (threadIdx.x == 0) {
#pragma unroll
    for (int i = 0; i < kStages; ++i) {
      init_barrier(&barriers.k_full[i], 1), init_barrier(&barriers.v_full[i], 1);
      init_barrier(&barriers.k_free[i], CHUNK_GROUPS * 4), init_barrier(&barriers.v_free[i], CHUNK_GROUPS * 4);
    }
    publish_barriers();
  }
  __syncthreads();
  Step step{query_starts, context_lengths, page_starts, page_list, context_starts, sequences};
  Rows rows = rows_of_block<kRows>(step);
  wait_for_previous();
  if (rows.count == 0) return;
  Span span = span_of(rows);
  if (threadIdx.x < 128) {
    give_registers<kProducerRegisters>();
    if (threadIdx.x < 32) {
      Producer producer{step, barriers, span, rows.kv_head, rows.sequence.page_begin};
      producer.run(k, v, k_ring, v_ring);
    }
  } else {
    take_registers<kConsumerRegisters>();
    int group = threadIdx.x / 128 - 1;
    Consumer consumer;
    consumer.load_q(rows, q, q_shared, group);
    consumer.run(barriers, span, describe_tile(q_shared + group * 64 * 128), describe_tile(k_ring),
                 describe_transposed_tile(v_ring, kTileBlockBytes), v_ring, rows.sequence.end_slot, group);
    consumer.finish(rows, y, group);
  }
}
