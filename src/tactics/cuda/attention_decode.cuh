// Attention of sequences with one token: y = softmax(scale q k^T) v over each sequence's pages, for bf16 and f16
// states.
//
// A warp is a worker (attention_split.cuh) and needs no other: it copies tiles of 16 positions of K and V into a ring
// of its own, DECODE_STAGES deep, so that reads of memory run ahead of the arithmetic, also into the next pair.
// attention_combine follows.
//
// #defines beside those of attention_tiles.cuh: DECODE_WARPS, DECODE_STAGES. Grid: any number of blocks; workers =
// DECODE_WARPS * blocks. Dynamic shared memory: DECODE_WARPS * DECODE_STAGES tiles. `partial` holds 2 * workers parts.
#include "attention_split.cuh"
#include "attention_tiles.cuh"

namespace attention {

// Copies a worker's tiles into its ring, in order.
struct Reader {
  const Step& step;
  TileCopier copier;
  uint32 ring;
  Place place;
  int left;  // entries of the list
  int stage = 0;

  __device__ __forceinline__ int tile() const { return copier.first_slot / kTile + place.tile; }
  __device__ __forceinline__ void enter_pair() {
    Sequence sequence = sequence_at(step, place.sequence);
    copier.enter(step, sequence, place.pair / kParts, first_visible(sequence.end_slot) / kTile + place.tile);
  }
  // One more tile if there is one; always one more group of copies.
  __device__ __forceinline__ void copy_tile() {
    if (left > 0) {
      copier.copy(ring + stage * kStageBytes, tile());
      stage = stage + 1 == DECODE_STAGES ? 0 : stage + 1;
      if (--left > 0) {
        advance<kTile, kPairs>(step, place);
        if (place.tile == 0)
          enter_pair();
        else
          copier.prepare(tile());
      }
    }
    commit_copies();
  }
};

}  // namespace attention

extern "C" __global__ void __launch_bounds__(DECODE_WARPS * 32)
    attention_decode(const QT* q, const KT* k, const KT* v, const int* query_starts, const int* context_lengths,
                     const int* page_starts, const int* page_list, const int* context_starts, QT* y, float* partial,
                     float2* partial_weights, int sequences) {
  using namespace attention;
  extern __shared__ __align__(128) unsigned char shared[];
  wait_for_previous();
  allow_next();  // only now: attention_combine reads the lists of the step before its own wait
  Step step{query_starts, context_lengths, page_starts, page_list, context_starts, sequences};
  // Neighbouring workers are on different multiprocessors.
  int warp = threadIdx.x >> 5, worker = warp * gridDim.x + blockIdx.x;
  int total = total_tiles<kTile>(step) * kPairs, per_worker = ceil_div(total, DECODE_WARPS * gridDim.x);
  int begin = worker * per_worker, left = min(per_worker, total - begin);
  if (left <= 0) return;

  Place place = place_of<kTile, kPairs>(step, begin);
  uint32 ring = shared_address(shared) + warp * DECODE_STAGES * kStageBytes;
  Reader reader{step, {k, v}, ring, place, left};
  reader.enter_pair();
#pragma unroll
  for (int i = 0; i < DECODE_STAGES - 1; ++i) reader.copy_tile();

  State state;
  int stage = 0;
  bool first = true;  // the pair holds this worker's first tile
  while (left > 0) {
    Sequence sequence = sequence_at(step, place.sequence);
    int first_slot = first_visible(sequence.end_slot), tiles = min(left, place.tiles - place.tile);
    int heads_before = place.pair / kParts * kGroup + place.pair % kParts * 8 * kColumns;
    int heads = min(kPartHeads, kGroup - place.pair % kParts * 8 * kColumns);
    int64 row = int64(sequence.first_token) * HEADS + heads_before;
    state.begin(q + row * HEAD, heads);
    for (int i = 0; i < tiles; ++i) {
      wait_for_copies<DECODE_STAGES - 2>();
      __syncwarp();
      reader.copy_tile();
      int slot = (first_slot / kTile + place.tile + i) * kTile;
      state.add(ring + stage * kStageBytes, slot, first_slot, sequence.end_slot);
      stage = stage + 1 == DECODE_STAGES ? 0 : stage + 1;
    }
    int64 part = int64(worker) * 2 + !first;
    bool whole = tiles == place.tiles;
    state.finish(y + row * V_HEAD, whole ? nullptr : partial + part * kPartHeads * V_HEAD,
                 partial_weights + part * kPartHeads, heads);
    first = false;
    left -= tiles;
    place.tile += tiles - 1;
    if (left > 0) advance<kTile, kPairs>(step, place);
  }
}
