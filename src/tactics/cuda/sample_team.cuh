// The blocks that work on one row of logits, and the sums on which they agree.
//
// #defines: BLOCKS, THREADS, PER, CLUSTERS of sample.cuh.
#pragma once

#include "device/prelude.cuh"

namespace sample {

constexpr int kThreads = THREADS, kWarps = kThreads / 32;
constexpr int kItems = kThreads * PER;  // of a block
constexpr int kMostSums = 4;
constexpr int kFew = 256;  // candidates that one block compares with each other
constexpr int kMailbox = 2 * BLOCKS * kMostSums + 2 * kFew;
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
  uint64 totals[kMostSums];
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
  int posts = 0, waits = 0;

  __device__ __forceinline__ void send(int block, int n, uint64 value) {
#if CLUSTERS
    store_to_block(block, &shared.mail[posts & 1][rank][n], value);
#else
    if (BLOCKS == 1)
      shared.mail[posts & 1][0][n] = value;
    else if (block == 0)
      mailbox[((posts & 1) * BLOCKS + rank) * kMostSums + n] = value;
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

  // What a block posted last; 0 beyond BLOCKS.
  __device__ __forceinline__ uint64 posted(int block, int n) const {
    const int turn = (posts - 1) & 1;
    if (block >= BLOCKS) return 0;
#if !CLUSTERS
    if (BLOCKS > 1) return *static_cast<volatile uint64*>(mailbox + (turn * BLOCKS + block) * kMostSums + n);
#endif
    return shared.mail[turn][block][n];
  }

  template <int MAXIMA>
  static __device__ __forceinline__ uint64 of_warp(uint64 x, int n) {
    return n < MAXIMA ? max_of_warp(x) : sum_of_warp(x);
  }

  // Over each block, takes the maximum of the first MAXIMA of x and adds up the others, for all blocks to see.
  // shared.warps holds the warps of this block until the next call.
  template <int MAXIMA, int N>
  __device__ __forceinline__ void post(const uint64 (&x)[N]) {
    static_assert(N <= kMostSums && N <= kWarps, "a warp and a place for each sum");
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const uint64 sum = of_warp<MAXIMA>(x[n], n);
      if (lane == 0) shared.warps[warp][n] = sum;
    }
    __syncthreads();
    if (warp < N) {
      const uint64 sum = of_warp<MAXIMA>(lane < kWarps ? shared.warps[lane][warp] : 0, warp);
      if (lane < BLOCKS) send(lane, warp, sum);
    }
    wait();
    ++posts;
  }

  // Adds up x over each block. Lane b of every warp gets what block b has.
  __device__ __forceinline__ uint64 exchange(uint64 x) {
    const uint64 one[1] = {x};
    post<0>(one);
    return posted(threadIdx.x & 31, 0);
  }

  // Over the row, takes the maximum of the first MAXIMA of x and adds up the others.
  template <int MAXIMA = 0, int N>
  __device__ __forceinline__ void reduce(uint64 (&x)[N]) {
    post<MAXIMA>(x);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    if (N == 1) {
      x[0] = of_warp<MAXIMA>(posted(lane, 0), 0);
      return;
    }
    // A warp for each: adding up in all of them costs more than the barrier.
    if (warp < N) {
      const uint64 total = of_warp<MAXIMA>(posted(lane, warp), warp);
      if (lane == 0) shared.totals[warp] = total;
    }
    __syncthreads();
#pragma unroll
    for (int n = 0; n < N; ++n) x[n] = shared.totals[n];
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

}  // namespace sample
