// Attention of sequences with one token: y = softmax(scale q k^T) v over each sequence's pages, for bf16 and f16
// states.
//
// A warp takes tiles of 16 positions (attention_parts.cuh): it copies K and V into a ring of its own, DECODE_STAGES
// deep, so that reads of memory run ahead of the arithmetic (attention_tiles.cuh).
//
// #defines: those of attention_parts.cuh and DECODE_STAGES. HEAD and V_HEAD are multiples of 16. Dynamic shared memory:
// DECODE_WARPS * DECODE_STAGES tiles.
#include "attention_parts.cuh"
#include "attention_tiles.cuh"

extern "C" __global__ void __launch_bounds__(DECODE_WARPS * 32)
    attention_decode(const QT* q, const KT* k, const KT* v, const int* query_starts, const int* context_lengths,
                     const int* page_starts, const int* page_list, const int* context_starts, QT* y,
                     attention::PartSums* partial, int sequences) {
  using namespace attention;
  constexpr int kRingBytes = DECODE_STAGES * kTileBytes;
  static_assert(kRingBytes >= PART_HEADS * V_HEAD * 4, "a warp leaves its sums in its ring");
  extern __shared__ __align__(128) unsigned char rings[];
  __shared__ float2 warp_weights[DECODE_WARPS][PART_HEADS];
  allow_next();
  Step step{query_starts, context_lengths, page_starts, page_list, context_starts, sequences};
  Task task;
  if (!find_task<kPiece>(step, task)) return wait_for_previous();

  int warp = threadIdx.x >> 5, next = task.tile, free_stage = 0, stage = 0;
  unsigned char* mine = rings + warp * kRingBytes;
  uint32 ring = shared_address(mine);
  PieceCopier copier{page_list + task.sequence.page_begin, task.kv_head, task.first_slot, task.sequence.end_slot};
  copier.prepare(next);
  // One more tile if there is one; always one more group of copies.
  auto copy_tile = [&] {
    if (next < task.end_tile) {
      uint32 target = ring + free_stage * kTileBytes;
      copier.copy<HEAD>(target, k, next);
      copier.copy<V_HEAD>(target + kPiece * kKStride, v, next);
      free_stage = free_stage + 1 == DECODE_STAGES ? 0 : free_stage + 1;
      copier.prepare(++next);
    }
    commit_copies();
  };
  // The kernels in front make q and, in the last tile, the token's own k and v.
  int copied = 0, last_tile = (task.sequence.end_slot - 1) / kPiece;
  for (; copied < DECODE_STAGES - 1 && next < min(task.end_tile, last_tile); ++copied) copy_tile();
  wait_for_previous();
  State state;
  state.begin(q + task.row * HEAD, task.heads);
  for (; copied < DECODE_STAGES - 1; ++copied) copy_tile();
  for (int tile = task.tile; tile < task.end_tile; ++tile) {
    wait_for_copies<DECODE_STAGES - 2>();
    __syncwarp();
    copy_tile();
    state.add(ring + stage * kTileBytes, tile * kPiece, task.first_slot, task.sequence.end_slot);
    stage = stage + 1 == DECODE_STAGES ? 0 : stage + 1;
  }
  __syncwarp();
  state.leave(reinterpret_cast<float*>(mine), warp_weights[warp], task.heads);
  combine_warps(rings, kRingBytes, warp_weights, task, y, partial);
}
