// The next token of each row of logits (ops/sample.h).
//
// Two launches share the rows. sample_greedy takes those whose largest logit is the answer as it stands: a few blocks
// per row and little else. sample_rows takes the rest:
//
// BLOCKS blocks of 1024 threads work on a row; a thread keeps PER of its logits in registers, a warp owns 32 * PER ids
// in a row. Penalties are laid out by id in shared memory, so that lists may have any order. Then the blocks agree on
// sums: first on the largest logit. Top-k and top-p are cuts in the order of (logit, smaller id first): an interval
// that holds the cut is quartered, at evenly spaced logits, until few candidates are left in it; one block compares
// these with each other. Last, the running sum of weights by id finds the block, the warp and the lane in which the
// random number falls. Log-probabilities come before the penalties: the likeliest ids are those above a top-k cut.
//
// Weights are added as integers, in units of 2^-31 of the largest: sums are the same in any order, so that a row gives
// the same token beside any others.
//
// Blocks that share a row are a cluster, which exchanges sums through shared memory. Before Hopper (CLUSTERS=0) a
// greedy row has one block; the other launch is cooperative, and sums go through `mailbox`, kMailbox numbers for each
// team of blocks, whose counters sample_begin has set to zero. As many teams or clusters as the GPU holds at once take
// the rows in turn.
//
// #defines: VOCAB, LIKELIEST (columns of `likeliest`), BLOCKS (a power of two up to 16), PER (BLOCKS * 1024 * PER >=
// VOCAB), CLUSTERS, GREEDY_BLOCKS. The caller gives sample_rows PER * 4096 bytes of shared memory.
#include "device/prelude.cuh"

namespace sample {

constexpr int kThreads = 1024, kWarps = 32;
constexpr int kItems = kThreads * PER;  // of a block
constexpr int kMostSums = 4;
constexpr int kFew = 256;  // candidates that one block compares
constexpr int kMailbox = 2 * BLOCKS * kMostSums + 2 * kFew;
constexpr int kAbsent = -2;  // where counts of listed ids are
constexpr uint32 kAll = 0xffffffffu;
#define kInfinity __int_as_float(0x7f800000)

// --- candidates in order: likelier ones are larger, no two are equal, 0 is none -------------------------------------

__device__ __forceinline__ uint32 ordered(float x) {
  const uint32 bits = __float_as_uint(x + 0.0f);  // -0 is 0
  return x != x ? 0 : bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float unordered(uint32 key) { return __uint_as_float(key >> 31 ? key ^ 0x80000000u : ~key); }
__device__ __forceinline__ uint64 candidate(uint32 key, int id) { return uint64(key) << 32 | uint32(~id); }
__device__ __forceinline__ int id_of(uint64 candidate) { return ~int(uint32(candidate)); }
__device__ __forceinline__ float logit_of(uint64 candidate) { return unordered(uint32(candidate >> 32)); }

// --- sums over a row ------------------------------------------------------------------------------------------------

// Writes to the shared memory of another block of the cluster, which must have begun.
__device__ __forceinline__ void store_to_block(int block, const void* place, uint64 value) {
#if __CUDA_ARCH__ >= 900
  uint32 address;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(place)), "r"(block));
  asm volatile("st.shared::cluster.u64 [%0], %1;" ::"r"(address), "l"(value) : "memory");
#endif
}
// Until all blocks of the cluster are here; they see what was written before.
__device__ __forceinline__ void wait_for_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// Of the lanes of a warp, where every x is below 2^54.
__device__ __forceinline__ uint64 sum_of_warp(uint64 x) {
  const uint32 low = uint32(x) & 0x7ffffffu, high = uint32(x >> 27);
  return (uint64(__reduce_add_sync(kAll, high)) << 27) + __reduce_add_sync(kAll, low);
}
__device__ __forceinline__ uint64 max_of_warp(uint64 x) {
  const uint32 high = __reduce_max_sync(kAll, uint32(x >> 32));
  return uint64(high) << 32 | __reduce_max_sync(kAll, uint32(x >> 32) == high ? uint32(x) : 0u);
}

struct Few {
  uint64 candidate, units;
};
struct Shared {
  uint64 warps[kWarps][kMostSums];
  uint64 mail[2][BLOCKS][kMostSums];  // from every block of the row
  Few few[kFew];                      // of the first block: from all of them
  float largest, log_sum;             // log-probabilities are logits less both
};

// The blocks of one row.
struct Team {
  Shared& shared;
  uint64* mailbox;  // of this team, when there are no clusters
  uint32* counter;
  int rank;
  int exchanges = 0, waits = 0;

  __device__ __forceinline__ void send(int block, int n, uint64 value) {
#if CLUSTERS
    store_to_block(block, &shared.mail[exchanges & 1][rank][n], value);
#else
    if (BLOCKS == 1)
      shared.mail[exchanges & 1][0][n] = value;
    else if (block == 0)
      mailbox[((exchanges & 1) * BLOCKS + rank) * kMostSums + n] = value;
#endif
  }

  __device__ __forceinline__ void send_few(int i, uint64 candidate, uint64 units) {
#if CLUSTERS
    store_to_block(0, &shared.few[i].candidate, candidate);
    store_to_block(0, &shared.few[i].units, units);
#else
    uint64* place = BLOCKS == 1 ? &shared.few[i].candidate : mailbox + 2 * BLOCKS * kMostSums + 2 * i;
    place[0] = candidate, place[1] = units;
#endif
  }
  // For the first block, after a wait().
  __device__ __forceinline__ Few few(int i) const {
#if !CLUSTERS
    if (BLOCKS > 1) {
      const volatile uint64* place = mailbox + 2 * BLOCKS * kMostSums + 2 * i;
      return {place[0], place[1]};
    }
#endif
    return shared.few[i];
  }

  // Until all blocks are here; they see what was sent before.
  __device__ __forceinline__ void wait() {
#if CLUSTERS
    wait_for_cluster();
#else
    if (BLOCKS > 1) {
      __threadfence();
      __syncthreads();
      if (threadIdx.x == 0) {
        atomicAdd(counter, 1u);
        while (*static_cast<volatile uint32*>(counter) < uint32(waits + 1) * BLOCKS) {
        }
        __threadfence();
      }
    }
    __syncthreads();
#endif
    ++waits;
  }

  __device__ __forceinline__ uint64 received(int block, int n) const {
#if !CLUSTERS
    if (BLOCKS > 1) return *static_cast<volatile uint64*>(mailbox + ((exchanges & 1) * BLOCKS + block) * kMostSums + n);
#endif
    return shared.mail[exchanges & 1][block][n];
  }

  // Over each block, takes the maximum of the first MAXIMA of x and adds up the others. Lane b of every warp gets what
  // block b has, 0 beyond BLOCKS; shared.warps holds the warps of this block until the next call.
  template <int MAXIMA = 0, int N>
  __device__ __forceinline__ void exchange(uint64 (&x)[N]) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const uint64 sum = n < MAXIMA ? max_of_warp(x[n]) : sum_of_warp(x[n]);
      if (lane == 0) shared.warps[warp][n] = sum;
    }
    __syncthreads();
    if (warp == 0) {
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const uint64 sum = n < MAXIMA ? max_of_warp(shared.warps[lane][n]) : sum_of_warp(shared.warps[lane][n]);
        if (lane < BLOCKS) send(lane, n, sum);
      }
    }
    wait();
#pragma unroll
    for (int n = 0; n < N; ++n) x[n] = lane < BLOCKS ? received(lane, n) : 0;
    ++exchanges;
  }

  // The same over the row.
  template <int MAXIMA = 0, int N>
  __device__ __forceinline__ void reduce(uint64 (&x)[N]) {
    exchange<MAXIMA>(x);
#pragma unroll
    for (int n = 0; n < N; ++n) x[n] = n < MAXIMA ? max_of_warp(x[n]) : sum_of_warp(x[n]);
  }
};

__device__ __forceinline__ uint64 inclusive_sum(uint64 x) {
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const uint64 below = __shfl_up_sync(kAll, x, distance);
    if ((threadIdx.x & 31) >= distance) x += below;
  }
  return x;
}

// The lane in whose share `target` falls when the shares of a warp lie one behind the other; `target` becomes the place
// in it. 32 when they end before.
__device__ __forceinline__ int lane_of(uint64 share, uint64& target) {
  const uint64 sum = inclusive_sum(share);
  const uint32 behind = __ballot_sync(kAll, sum > target);
  if (behind == 0) {
    target -= __shfl_sync(kAll, sum, 31);
    return 32;
  }
  const int lane = __ffs(behind) - 1;
  target -= __shfl_sync(kAll, sum - share, lane);
  return lane;
}

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

// --- the logits of a thread -----------------------------------------------------------------------------------------

struct Logits {
  uint32 key[PER];
  uint32 units[PER];  // weights
  int first;          // the id of the first; the others follow 32 apart

  __device__ __forceinline__ bool exists(int j) const { return first + 32 * j < VOCAB; }
  __device__ __forceinline__ uint64 at(int j) const { return exists(j) ? candidate(key[j], first + 32 * j) : 0; }

  __device__ __forceinline__ void load(const float* row, int block) {
    first = block * kItems + int(threadIdx.x >> 5) * 32 * PER + int(threadIdx.x & 31);
    float x[PER];
#pragma unroll
    for (int j = 0; j < PER; ++j) x[j] = exists(j) ? row[first + 32 * j] : 0.0f;
#pragma unroll
    for (int j = 0; j < PER; ++j) key[j] = ordered(x[j]);
  }

  // The largest candidate, the complement of the least one that has a weight, and how many have one.
  __device__ __forceinline__ void survey(uint64 (&found)[3]) const {
#pragma unroll
    for (int j = 0; j < PER; ++j) {
      const uint64 c = at(j);
      found[0] = c > found[0] ? c : found[0];
      if (!exists(j) || key[j] <= ordered(-kInfinity)) continue;
      found[1] = ~c > found[1] ? ~c : found[1];
      ++found[2];
    }
  }
  __device__ __forceinline__ void weigh(float max, float temperature) {
#pragma unroll
    for (int j = 0; j < PER; ++j)
      units[j] =
          key[j] > ordered(-kInfinity) ? __float2uint_rn(expf((unordered(key[j]) - max) / temperature) * 0x1p31f) : 0;
  }
  __device__ __forceinline__ uint64 sum_from(uint64 cut) const {
    uint64 sum = 0;
#pragma unroll
    for (int j = 0; j < PER; ++j)
      if (at(j) >= cut) sum += units[j];
    return sum;
  }
};

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

// --- cuts -----------------------------------------------------------------------------------------------------------

// Holds a cut: what is at least `low` reaches the goal, what is at least `high` does not.
struct Interval {
  uint64 low, high;
  int low_count, high_count = 0;  // candidates that are at least low, high
  uint64 high_sum = 0;            // the weights of the latter

  __device__ __forceinline__ bool holds(uint64 c) const { return c >= low && c < high; }

  // Three places inside. Evenly spaced logits find a cut fastest, evenly spaced bits find it whatever the logits.
  __device__ __forceinline__ void split(uint64 (&t)[3], bool by_logit) const {
    const float from = logit_of(low), step = (logit_of(high - 1) - from) * 0.25f;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      const uint64 even = uint64(ordered(from + step * float(i + 1))) << 32;
      t[i] = by_logit && even > low && even < high ? even : low + 1 + ((high - low - 1) >> 2) * (i + 1);
    }
  }
};

// All candidates that have a weight.
__device__ __forceinline__ Interval survey(Team& team, const Logits& logits) {
  uint64 found[3] = {};
  logits.survey(found);
  team.reduce<2>(found);
  return {~found[1], found[0] + 1, int(found[2])};
}

// Sends the candidates that the interval holds, at most kFew, to the first block, which sees them afterwards. How many
// they are.
template <bool COUNT>
__device__ __forceinline__ int gather(Team& team, const Logits& logits, const Interval& in) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  uint64 inside[1] = {0};
#pragma unroll
  for (int j = 0; j < PER; ++j) inside[0] += in.holds(logits.at(j));
  const uint64 mine = inside[0];
  team.exchange(inside);
  // The places of this thread's candidates are behind those of the blocks, warps and lanes before it.
  const int total = int(sum_of_warp(inside[0]));
  int place = int(sum_of_warp(lane < team.rank ? inside[0] : 0)) +
              int(sum_of_warp(lane < warp ? team.shared.warps[lane][0] : 0)) + int(inclusive_sum(mine) - mine);
#pragma unroll
  for (int j = 0; j < PER; ++j) {
    const uint64 c = logits.at(j);
    if (in.holds(c)) team.send_few(place++, c, COUNT ? 1 : logits.units[j]);
  }
  team.wait();
  return total;
}

// The cut when the interval holds at most kFew candidates.
template <bool COUNT>
__device__ __forceinline__ uint64 compare_few(Team& team, const Logits& logits, const Interval& in, uint64 goal) {
  const int total = gather<COUNT>(team, logits, in);
  uint64 cut[1] = {0};
  if (team.rank == 0) {
    // As many threads as there are share the comparisons of a candidate.
    constexpr int kSharing = kThreads / kFew;
    const int i = threadIdx.x / kSharing;
    const Few self = i < total ? team.few(i) : Few{~0ull, 0};
    uint64 sum = 0;
    for (int other = threadIdx.x % kSharing; other < total; other += kSharing) {
      const Few one = team.few(other);
      if (one.candidate >= self.candidate) sum += one.units;
    }
#pragma unroll
    for (int distance = 1; distance < kSharing; distance *= 2) sum += __shfl_xor_sync(kAll, sum, distance);
    sum += COUNT ? uint64(in.high_count) : in.high_sum;
    if (i < total && sum >= goal && sum - self.units < goal) cut[0] = self.candidate;
  }
  team.reduce<1>(cut);
  return cut[0];
}

// The greatest cut such that what is at least it reaches the goal: a number of candidates, or a sum of weights.
template <bool COUNT>
__device__ __forceinline__ uint64 find_cut(Team& team, const Logits& logits, Interval in, uint64 goal) {
  constexpr int kRoundsByLogit = 12, kCountBits = 19;
  // Counts are exact, so that few are left when nothing is left to split: the second bound holds even if they were not.
  for (int round = 0; in.low_count - in.high_count > kFew && in.high - in.low > 1; ++round) {
    uint64 t[3], sums[COUNT ? 1 : 4] = {};  // three counts in one number, three sums
    in.split(t, round < kRoundsByLogit);
#pragma unroll
    for (int j = 0; j < PER; ++j) {
      const uint64 c = logits.at(j);
      if (!in.holds(c)) continue;
#pragma unroll
      for (int i = 0; i < 3; ++i)
        if (c >= t[i]) {
          sums[0] += uint64(1) << (kCountBits * i);
          if (!COUNT) sums[1 + i] += logits.units[j];
        }
    }
    team.reduce(sums);
    // The ends move to the places between which the goal is reached.
    const Interval old = in;
#pragma unroll
    for (int i = 2; i >= 0; --i) {
      const int count = old.high_count + (int(sums[0] >> (kCountBits * i)) & ((1 << kCountBits) - 1));
      const uint64 sum = COUNT ? uint64(count) : old.high_sum + sums[COUNT ? 0 : 1 + i];
      if (t[i] >= in.high || t[i] <= in.low) continue;
      if (sum >= goal)
        in.low = t[i], in.low_count = count;
      else
        in.high = t[i], in.high_count = count, in.high_sum = sum;
    }
  }
  return compare_few<COUNT>(team, logits, in, goal);
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
  uint64 sum[1] = {logits.sum_from(cut)};
  team.exchange(sum);
  uint64 target = __umul64hi(wish.random, sum_of_warp(sum[0]));
  if (lane_of(sum[0], target) != team.rank) return -1;
  if (lane_of(team.shared.warps[lane][0], target) != warp) return -1;
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

extern "C" __global__ void __launch_bounds__(sample::kThreads, 1)
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
