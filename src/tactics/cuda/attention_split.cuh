// How the decodes of a step are shared out: the tiles of all sequences with one token form one list, in order of
// sequence, pair (a kv head, or a part of its query heads) and position. Workers take equal runs of that list, so that
// every mix of contexts keeps all of them busy and no launch depends on data. A pair that several workers share leaves
// one part with each; attention_combine adds these up.
//
// A part is that of a worker's slot 0 when the pair holds the worker's first tile, else that of its slot 1: the pairs
// in between are whole. Parts hold PART_HEADS rows of V_HEAD sums, and for each row the largest exponent and the sum of
// weights.
#pragma once

#include "attention_step.cuh"

namespace attention {

template <int TILE>
__device__ __forceinline__ int decode_tiles(const Step& step, int s) {
  if (s >= step.sequences) return 0;
  Sequence sequence = sequence_at(step, s);
  int end = sequence.end_slot;
  if (sequence.tokens != 1 || end <= 0) return 0;
  return ceil_div(end, TILE) - first_visible(end) / TILE;
}

// The tiles of one pair in each sequence, added up; called by whole warps.
template <int TILE>
__device__ __forceinline__ int total_tiles(const Step& step) {
  int sum = 0;
  for (int s = threadIdx.x & 31; s < step.sequences; s += 32) sum += decode_tiles<TILE>(step, s);
  return __reduce_add_sync(kAll, sum);
}

struct Place {
  int sequence, pair, tile;
  int tiles;  // of this pair
};

// Where entry `index` of the list lies; called by whole warps, for an index in the list.
template <int TILE, int PAIRS>
__device__ __forceinline__ Place place_of(const Step& step, int index) {
  int before = 0;
  for (int s = threadIdx.x & 31;; s += 32) {
    int tiles = decode_tiles<TILE>(step, s), sum = before + inclusive_sum(tiles);
    uint32 behind = __ballot_sync(kAll, sum * PAIRS > index);
    if (behind) {
      int lane = __ffs(behind) - 1;
      tiles = __shfl_sync(kAll, tiles, lane);
      int rest = index - (__shfl_sync(kAll, sum, lane) - tiles) * PAIRS;
      return {__shfl_sync(kAll, s, lane), rest / tiles, rest % tiles, tiles};
    }
    before = __shfl_sync(kAll, sum, 31);
  }
}

// To the next entry of the list, of which there is one.
template <int TILE, int PAIRS>
__device__ __forceinline__ void advance(const Step& step, Place& place) {
  if (++place.tile < place.tiles) return;
  place.tile = 0;
  if (++place.pair < PAIRS) return;
  place.pair = 0;
  do place.tiles = decode_tiles<TILE>(step, ++place.sequence);
  while (place.tiles == 0);
}

}  // namespace attention
