// The logits of a row in the registers of its blocks, and cuts in the order of (logit, smaller id first).
//
// #defines: VOCAB, PER of sample.cuh.
#pragma once

#include "sample_team.cuh"

namespace sample {

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
  uint64 mine = 0;
#pragma unroll
  for (int j = 0; j < PER; ++j) mine += in.holds(logits.at(j));
  const uint64 inside = team.exchange(mine);
  // The places of this thread's candidates are behind those of the blocks, warps and lanes before it.
  const int total = int(sum_of_warp(inside));
  int place = int(sum_of_warp(lane < team.rank ? inside : 0)) +
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

}  // namespace sample
