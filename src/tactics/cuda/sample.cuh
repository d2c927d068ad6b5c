// The next token of each row of logits (ops/sample.h).
//
// Two launches share the rows. sample_greedy takes those whose largest logit is the answer as it stands: a few blocks
// per row and little else. sample_rows takes the rest:
//
// BLOCKS blocks of THREADS threads work on a row; a thread keeps PER of its logits in registers, a warp owns 32 * PER
// ids in a row. Penalties are laid out by id in shared memory, so that lists may have any order. Then the blocks agree
// on sums: first on the largest logit. Top-k and top-p are cuts in the order of (logit, smaller id first): an interval
// that holds the cut is quartered, at evenly spaced logits, until few candidates are left in it; one block compares
// these with each other. Last, the running sum of weights by id finds the block, the warp and the lane in which the
// random number falls. Log-probabilities come before the penalties: the likeliest ids are those above a top-k cut.
//
// Weights are added as integers, in units of 2^-31 of the largest: sums are the same in any order, so that a row gives
// the same token beside any others.
//
// Blocks that share a row are a cluster, which exchanges sums through shared memory. Before Hopper (CLUSTERS=0) a
// greedy row has one block; the other launch is cooperative, and sums go through `mailbox`, kMailbox numbers for each
// team of blocks, whose counters sample_begin has set to zero. As many teams as the GPU holds at once take the rows in
// turn. Exchanges take longer than the work between them, so that two blocks for an SM finish more rows than one.
//
// #defines: VOCAB, LIKELIEST (columns of `likeliest`), BLOCKS (a power of two up to 16), THREADS (512 or 1024), PER
// (BLOCKS * THREADS * PER >= VOCAB), CLUSTERS, GREEDY_BLOCKS. The caller gives sample_rows THREADS * PER * 4 bytes of
// shared memory.
#include "sample_cuts.cuh"

namespace sample {

// --- what a row wants -----------------------------------------------------------------------------------------------

struct Wish {
  float temperature, top_p, min_p, repetition, presence, frequency;
  int seat, top_k;
  uint64 random;  // of [0, 1), in units of 2^-64
  int listed_begin, listed_end;
  bool pending;
  int logprobs;  // of so many likeliest ids; -1: none

  __device__ __forceinline__ Wish(const float* option, const int* choice)
      : temperature(option[0]),
        top_p(option[1]),
        min_p(option[2]),
        repetition(option[3]),
        presence(option[4]),
        frequency(option[5]),
        seat(choice[0]),
        top_k(choice[1]),
        random(uint64(choice[2]) << 33 | uint64(choice[3]) << 11),
        listed_begin(choice[4]),
        listed_end(choice[5]),
        pending(choice[6] != 0),
        logprobs(choice[7]) {}
};
constexpr int kOptions = 6, kChoices = 8;

// Whether the largest logit as it stands is the token, and all that is wanted.
__device__ __forceinline__ bool is_plain(const float* option, const int* choice) {
  return option[0] == 0 && choice[4] == choice[5] && choice[6] == 0 && choice[7] < 0;
}

// Where the log-probabilities of a row go.
struct Told {
  int* likeliest;
  float* logprobs;

  __device__ __forceinline__ Told(int64 row, int* all_likeliest, float* all_logprobs)
      : likeliest(all_likeliest + row * LIKELIEST), logprobs(all_logprobs + row * (1 + LIKELIEST)) {}
  // Called by every thread of a block.
  __device__ __forceinline__ void clear() const {
    if (threadIdx.x < LIKELIEST) likeliest[threadIdx.x] = -1;
    if (threadIdx.x <= LIKELIEST) logprobs[threadIdx.x] = 0.0f;
  }
};

// --- penalties ------------------------------------------------------------------------------------------------------

constexpr int kAbsent = -2;  // where counts of listed ids are

// Of listed ids, and of the one called pending, changes the logits. `counts` has a place for each logit of the block.
__device__ __forceinline__ void penalize(Logits& logits, const Wish& wish, const int2* listed, int pending,
                                         int block_first, int* counts) {
  if (wish.listed_begin == wish.listed_end && pending < 0) return;
  for (int i = threadIdx.x; i < kItems; i += kThreads) counts[i] = kAbsent;
  __syncthreads();
  for (int i = wish.listed_begin + int(threadIdx.x); i < wish.listed_end; i += kThreads) {
    const int2 entry = listed[i];
    const int64 place = int64(entry.x) - block_first;
    if (place >= 0 && place < kItems) counts[place] = entry.y;
  }
  __syncthreads();
  if (threadIdx.x == 0 && pending >= block_first && pending < block_first + kItems) {
    int& count = counts[pending - block_first];
    if (count != -1) count = count == kAbsent ? 1 : count + 1;
  }
  __syncthreads();
#pragma unroll
  for (int j = 0; j < PER; ++j) {
    const int count = counts[logits.first - block_first + 32 * j];
    if (count == kAbsent) continue;
    float x = unordered(logits.key[j]);
    x = x > 0 ? x / wish.repetition : x * wish.repetition;
    if (count > 0) x -= wish.presence + wish.frequency * float(count);
    if (count < 0) x = -kInfinity;
    logits.key[j] = ordered(x);
  }
}

// --- log-probabilities ----------------------------------------------------------------------------------------------

// Writes those of the likeliest ids, and to shared memory what makes them of logits.
__device__ __forceinline__ void tell_likeliest(Team& team, const float* row_logits, int wanted, const Told& told) {
  // Logits of their own, loaded again for the choice: with both in registers there are not enough.
  Logits logits;
  logits.load(row_logits, team.rank);
  Interval all = survey(team, logits);
  const float max = logit_of(all.high - 1);
  constexpr float kUnits = 0x1p39f;  // a block's sum of such units stays below 2^54
  uint64 sum[1] = {0};
#pragma unroll
  for (int j = 0; j < PER; ++j)
    if (logits.exists(j) && logits.key[j] > ordered(-kInfinity))
      sum[0] += __float2ull_rn(expf(unordered(logits.key[j]) - max) * kUnits);
  team.reduce(sum);
  if (threadIdx.x == 0) {
    team.shared.largest = max;
    team.shared.log_sum = fabsf(max) < kInfinity ? logf(float(sum[0]) * (1 / kUnits)) : __int_as_float(0x7fffffff);
  }
  const int count = min(min(wanted, LIKELIEST), VOCAB);
  if (count == 0) return;
  if (all.low_count < count) all.low = 1, all.low_count = VOCAB;
  if (count < all.low_count) all.low = find_cut<true>(team, logits, all, count);
  gather<true>(team, logits, all);
  if (team.rank == 0 && threadIdx.x < count) {
    const uint64 self = team.few(threadIdx.x).candidate;
    int place = 0;
    for (int i = 0; i < count; ++i) place += team.few(i).candidate > self;
    told.likeliest[place] = id_of(self);
    told.logprobs[1 + place] = logit_of(self) - team.shared.largest - team.shared.log_sum;
  }
}

// --- the draw -------------------------------------------------------------------------------------------------------

// What top-k, top-p and min-p leave is at least the result. `all` holds the candidates that have a weight.
__device__ __forceinline__ uint64 cut_of(Team& team, const Logits& logits, const Wish& wish, Interval all) {
  const uint64 best = all.high - 1;
  if (wish.top_k > 0 && wish.top_k < all.low_count) {
    all.low = find_cut<true>(team, logits, all, wish.top_k);
    all.low_count = wish.top_k;
  }
  uint64 cut = all.low;
  if (wish.top_p < 1) {
    uint64 total[1] = {logits.sum_from(cut)};
    team.reduce(total);
    const uint64 goal = uint64(double(wish.top_p) * double(total[0]));
    cut = find_cut<false>(team, logits, all, goal < 1 ? 1 : goal);
  }
  if (wish.min_p > 0) {
    const uint64 bound = uint64(ordered(logit_of(best) + wish.temperature * logf(wish.min_p))) << 32;
    cut = bound > cut ? bound : cut;
  }
  return cut < best ? cut : best;
}

// Which of this thread's logits the random number names: its id, or -1.
__device__ __forceinline__ int draw(Team& team, const Logits& logits, const Wish& wish, uint64 cut) {
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const uint64 sum = team.exchange(logits.sum_from(cut));
  uint64 target = __umul64hi(wish.random, sum_of_warp(sum));
  if (lane_of(sum, target) != team.rank) return -1;
  if (lane_of(lane < kWarps ? team.shared.warps[lane][0] : 0, target) != warp) return -1;
#pragma unroll
  for (int j = 0; j < PER; ++j) {
    const int found = lane_of(logits.at(j) >= cut ? logits.units[j] : 0, target);
    if (found < 32) return found == lane ? logits.first + 32 * j : -1;
  }
  return -1;
}

}  // namespace sample

extern "C" __global__ void __launch_bounds__(1024, 2)
    sample_greedy(const float* all_logits, const float* options, const int* choices, int* ids, int* last,
                  int* likeliest, float* logprobs) {
  using namespace sample;
  allow_next();
  __shared__ uint64 warps[32], blocks[GREEDY_BLOCKS];
  const int row = blockIdx.x / GREEDY_BLOCKS, rank = blockIdx.x % GREEDY_BLOCKS, lane = threadIdx.x & 31;
  if (GREEDY_BLOCKS > 1) wait_for_cluster();
  wait_for_previous();
  const int seat = choices[int64(row) * kChoices];
  const bool plain = is_plain(options + int64(row) * kOptions, choices + int64(row) * kChoices);
  if (seat >= 0 && !plain) return;
  if (rank == 0) Told(row, likeliest, logprobs).clear();
  if (seat < 0 && rank == 0 && threadIdx.x == 0) ids[row] = -1;
  if (seat < 0) return;

  constexpr int kStride = GREEDY_BLOCKS * 1024, kAtOnce = 8;
  const float* logits = all_logits + int64(row) * VOCAB;
  uint64 best = 0;
  for (int first = rank * 1024 + int(threadIdx.x); first < VOCAB; first += kAtOnce * kStride) {
    float x[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) x[j] = first + j * kStride < VOCAB ? logits[first + j * kStride] : 0.0f;
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const uint64 c = first + j * kStride < VOCAB ? candidate(ordered(x[j]), first + j * kStride) : 0;
      best = c > best ? c : best;
    }
  }
  best = max_of_warp(best);
  if (lane == 0) warps[threadIdx.x >> 5] = best;
  __syncthreads();
  if (threadIdx.x < 32) {
    best = max_of_warp(warps[lane]);
    if (GREEDY_BLOCKS > 1 && lane == 0) store_to_block(0, &blocks[rank], best);
  }
  if (GREEDY_BLOCKS > 1) {
    wait_for_cluster();
    if (rank != 0 || threadIdx.x >= 32) return;
    best = max_of_warp(lane < GREEDY_BLOCKS ? blocks[lane] : 0);
  }
  if (threadIdx.x == 0) ids[row] = last[seat] = id_of(best);
}

extern "C" __global__ void sample_begin(uint32* counters, int teams) {
  allow_next();
  wait_for_previous();
  for (int i = threadIdx.x; i < teams; i += blockDim.x) counters[i] = 0;
}

namespace sample {

// All that sample_rows does for one row; called by every thread of its blocks.
__device__ __forceinline__ void choose(Team& team, const float* row_logits, const Wish& wish, const int2* listed,
                                       int* id_out, int* last, const Told& told, int* counts) {
  if (team.rank == 0) told.clear();
  if (wish.logprobs >= 0) tell_likeliest(team, row_logits, wish.logprobs, told);
  Logits logits;
  logits.load(row_logits, team.rank);
  // Every thread has read it before the first exchange, after which it changes.
  const int pending = wish.pending ? last[wish.seat] : -1;
  penalize(logits, wish, listed, pending, team.rank * kItems, counts);
  const Interval all = survey(team, logits);
  const uint64 best = all.high - 1;
  int id = -1;
  if (wish.temperature == 0 || !(fabsf(logit_of(best)) < kInfinity)) {
    if (team.rank == 0 && threadIdx.x == 0) id = id_of(best);
  } else {
    logits.weigh(logit_of(best), wish.temperature);
    id = draw(team, logits, wish, cut_of(team, logits, wish, all));
  }
  if (id >= 0) {
    *id_out = id, last[wish.seat] = id;
    if (wish.logprobs >= 0) told.logprobs[0] = row_logits[id] - team.shared.largest - team.shared.log_sum;
  }
  __syncthreads();
}

}  // namespace sample

extern "C" __global__ void __launch_bounds__(sample::kThreads, 1024 / sample::kThreads)
    sample_rows(const float* all_logits, const float* options, const int* choices, const int2* listed, int* ids,
                int* last, int* likeliest, float* logprobs, int rows, uint32* counters, uint64* mailbox) {
  using namespace sample;
  allow_next();
  extern __shared__ int counts[];
  __shared__ Shared shared;
  const int number = blockIdx.x / BLOCKS, teams = gridDim.x / BLOCKS, rank = blockIdx.x % BLOCKS;
  Team team{shared, mailbox + int64(number) * kMailbox, counters + number, rank};
#if CLUSTERS
  wait_for_cluster();
#endif
  wait_for_previous();
  // The rows that are left, 32 looked at together; every team takes its share of them.
  for (int first = 0, seen = 0; first < rows; first += 32) {
    const int mine = first + int(threadIdx.x & 31);
    const float* option = options + int64(mine) * kOptions;
    const int* choice = choices + int64(mine) * kChoices;
    uint32 left = __ballot_sync(kAll, mine < rows && choice[0] >= 0 && !is_plain(option, choice));
    for (; left; left &= left - 1, ++seen) {
      if (seen % teams != number) continue;
      const int64 row = first + __ffs(left) - 1;
      const Wish wish(options + row * kOptions, choices + row * kChoices);
      choose(team, all_logits + row * VOCAB, wish, listed, ids + row, last, Told(row, likeliest, logprobs), counts);
    }
  }
}
