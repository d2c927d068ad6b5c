// Attention of sequences with several tokens, by products of single warps: y = softmax(mask(scale q k^T)) v over paged
// K and V, for bf16 and f16 states.
//
// A block takes 16 rows per warp (attention_rows.cuh) and walks the tiles of 64 positions that any of them sees; the
// next tile is copied while this one is used. Sums and weights stay in registers: the sums of q k^T are, packed, the
// operand of the product with v. q lies in registers too, or beyond 128 elements in shared memory.
//
// #defines: those of attention_step.cuh and CHUNK_WARPS. HEAD and V_HEAD are multiples of 16. Dynamic shared memory:
// 2 * 64 rows of K and V each 16 bytes longer than the vector; beyond 128 elements also 16 * CHUNK_WARPS such rows of
// q.
#include "attention_copy.cuh"
#include "attention_rows.cuh"

namespace attention {

constexpr int kRows = CHUNK_WARPS * 16, kTile = 64, kPieces = kTile / kPiece;
constexpr int kKStride = row_bytes(HEAD), kVStride = row_bytes(V_HEAD);
constexpr int kStageBytes = kTile * (kKStride + kVStride);
constexpr bool kQInRegisters = HEAD <= 128;

// Every warp copies the pieces whose turn it is, K and V of a tile counted on.
struct TileCopier {
  PieceCopier copier;
  const KT *k, *v;

  __device__ __forceinline__ void copy_tile(uint32 target, int slot) {
    if (slot < copier.end_slot) {
      for (int i = threadIdx.x / 32; i < 2 * kPieces; i += CHUNK_WARPS) {
        int part = i % kPieces, piece = slot / kPiece + part;
        copier.prepare(piece);
        if (i < kPieces)
          copier.copy<HEAD>(target + part * kPiece * kKStride, k, piece);
        else
          copier.copy<V_HEAD>(target + kTile * kKStride + part * kPiece * kVStride, v, piece);
      }
    }
    commit_copies();
  }
};

// One warp's 16 rows: lane 4 g + t has rows g and g + 8.
struct WarpRows {
  uint32 q[kQInRegisters ? HEAD / 16 : 1][4];
  uint32 q_row;  // where this lane's ldmatrix row begins, when q is in shared memory
  float sums[V_HEAD / 8][4];
  RowWeights weights;
  int end[2];  // of what the two rows see

  __device__ __forceinline__ void begin(const Rows& rows, const QT* q_all, unsigned char* q_shared) {
    int lane = threadIdx.x & 31, first = rows.first + threadIdx.x / 32 * 16;
    const QT* source[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      // Rows behind the last repeat it; they are not written.
      int row = min(first + lane / 4 + r * 8, rows.first + rows.count - 1);
      source[r] = q_all + rows.vector_of(row, HEAD) + lane % 4 * 2;
      end[r] = rows.end_of(row);
    }
    unsigned char* mine = q_shared + threadIdx.x / 32 * 16 * kKStride;
    q_row = shared_address(mine) + lane % 16 * kKStride + lane / 16 * 16;
#pragma unroll
    for (int i = 0; i < HEAD / 16; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        uint32 pair = load_pair<KT>(source[e % 2] + i * 16 + e / 2 * 8);
        if constexpr (kQInRegisters)
          q[i][e] = pair;
        else
          *reinterpret_cast<uint32*>(mine + (lane / 4 + e % 2 * 8) * kKStride + lane % 4 * 4 + i * 32 + e / 2 * 16) =
              pair;
      }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < V_HEAD / 8; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[i][e] = 0;
  }

  __device__ __forceinline__ void add(uint32 tile, int slot) {
    int lane = threadIdx.x & 31;
    float x[kTile / 2] = {};
    auto& scores = reinterpret_cast<float(&)[kTile / 8][4]>(x);
    uint32 k_row = tile + (lane % 8 + lane / 16 * 8) * kKStride + lane / 8 % 2 * 16;
#pragma unroll
    for (int i = 0; i < HEAD / 16; ++i) {
      if constexpr (!kQInRegisters) load_matrices(q[0], q_row + i * 32);
#pragma unroll
      for (int j = 0; j < kTile / 16; ++j) {
        uint32 b[4];
        load_matrices(b, k_row + j * 16 * kKStride + i * 32);
        multiply_add(KT{}, scores[2 * j], q[kQInRegisters ? i : 0], b[0], b[1]);
        multiply_add(KT{}, scores[2 * j + 1], q[kQInRegisters ? i : 0], b[2], b[3]);
      }
    }
    make_scores(x, slot);
    float factor[2];
    weights.weigh(x, factor);
#pragma unroll
    for (int i = 0; i < V_HEAD / 8; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[i][e] *= factor[e / 2];
    uint32 v_row = tile + kTile * kKStride + lane % 16 * kVStride + lane / 16 * 16;
#pragma unroll
    for (int j = 0; j < kTile / 16; ++j) {
      uint32 p[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) p[e] = pair_from_float(KT{}, x[8 * j + 2 * e], x[8 * j + 2 * e + 1]);
#pragma unroll
      for (int i = 0; i < V_HEAD / 16; ++i) {
        uint32 b[4];
        load_transposed(b, v_row + j * 16 * kVStride + i * 32);
        multiply_add(KT{}, sums[2 * i], p, b[0], b[1]);
        multiply_add(KT{}, sums[2 * i + 1], p, b[2], b[3]);
      }
    }
  }

  __device__ __forceinline__ void make_scores(float (&x)[kTile / 2], int slot) {
    int column = slot + (threadIdx.x & 3) * 2;
    // Rows of a warp see more from one to the next.
    bool whole = __all_sync(kAll, slot + kTile <= end[0] && slot >= first_visible(end[1]));
#pragma unroll
    for (int i = 0; i < kTile / 2; ++i) {
      x[i] = score_of(x[i]);
      int at = column + i / 4 * 8 + i % 2, r = i % 4 / 2;
      if (!whole && (at >= end[r] || at < first_visible(end[r]))) x[i] = minus_infinity();
    }
  }

  __device__ __forceinline__ void finish(const Rows& rows, QT* y) {
    int lane = threadIdx.x & 31, first = rows.first + threadIdx.x / 32 * 16;
    float factor[2];
    weights.finish(factor);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      int row = first + lane / 4 + r * 8;
      if (row >= rows.first + rows.count) continue;
      QT* target = y + rows.vector_of(row, V_HEAD) + lane % 4 * 2;
#pragma unroll
      for (int i = 0; i < V_HEAD / 8; ++i) {
        Pack<QT, 2> pair{from_float<QT>(sums[i][2 * r] * factor[r]), from_float<QT>(sums[i][2 * r + 1] * factor[r])};
        store_pack(target + i * 8, pair);
      }
    }
  }
};

}  // namespace attention

extern "C" __global__ void __launch_bounds__(CHUNK_WARPS * 32, 8 / CHUNK_WARPS)
    attention_chunk(const QT* q, const KT* k, const KT* v, const int* query_starts, const int* context_lengths,
                    const int* page_starts, const int* page_list, const int* context_starts, QT* y, int sequences) {
  using namespace attention;
  extern __shared__ __align__(128) unsigned char shared[];
  allow_next();
  Step step{query_starts, context_lengths, page_starts, page_list, context_starts, sequences};
  Rows rows = rows_of_block<kRows>(step);
  wait_for_previous();
  if (rows.count == 0) return;

  Span span = span_of(rows);
  TileCopier copier{{page_list + rows.sequence.page_begin, rows.kv_head, span.first_slot, span.end_slot}, k, v};
  static_assert(CHUNK_WARPS % kPieces == 0, "a warp's pieces follow each other in rising order");
  uint32 ring = shared_address(shared);
  int slot = span.first_slot / kTile * kTile, stage = 0;
  copier.copy_tile(ring, slot);
  WarpRows warp;
  warp.begin(rows, q, shared + 2 * kStageBytes);
  int warp_end = rows.end_of(min(rows.first + int(threadIdx.x / 32) * 16 + 15, rows.first + rows.count - 1));
  for (; slot < span.end_slot; slot += kTile, stage ^= 1) {
    wait_for_copies<0>();
    __syncthreads();
    copier.copy_tile(ring + (stage ^ 1) * kStageBytes, slot + kTile);
    if (slot < warp_end) warp.add(ring + stage * kStageBytes, slot);
  }
  warp.finish(rows, y);
}
