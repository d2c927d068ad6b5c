// Barriers in shared memory that count arrivals and bytes (mbarrier), and what blocks of one cluster need of each
// other. Needs sm_90.
//
// A barrier's phase completes when the expected arrivals have been made and the bytes expected of copies have landed.
// wait(barrier, parity) returns when the phase of that parity has completed: the first phase has parity 0. On a fresh
// barrier the phase "before the first" counts as completed, so a producer of a ring starts with parity 1.
// A waiter must never be two phases behind: parities alias.
#pragma once

#include "device/prelude.cuh"

using Mbarrier = uint64;  // in shared memory, at a multiple of 8 bytes

__device__ __forceinline__ void init_barrier(Mbarrier* barrier, uint32 arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// After the thread that initialized barriers: makes them known to copies and to the other blocks of the cluster. A
// block-wide or cluster-wide barrier has to follow.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void arrive(Mbarrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Arrives and lets the phase wait for `bytes` more of copies.
__device__ __forceinline__ void arrive_and_expect(Mbarrier* barrier, uint32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ bool phase_done(Mbarrier* barrier, uint32 parity) {
  uint32 done;
  asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
               : "=r"(done)
               : "r"(shared_address(barrier)), "r"(parity)
               : "memory");
  return done != 0;
}
__device__ __forceinline__ void wait(Mbarrier* barrier, uint32 parity) {
  while (!phase_done(barrier, parity)) {
  }
}
// phase_done() may suspend the thread for a while, this never does: for who watches several barriers.
__device__ __forceinline__ bool test_phase(Mbarrier* barrier, uint32 parity) {
  uint32 done;
  asm volatile("{.reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
               : "=r"(done)
               : "r"(shared_address(barrier)), "r"(parity)
               : "memory");
  return done != 0;
}
// --- clusters -------------------------------------------------------------------------------------------------------

__device__ __forceinline__ uint32 cluster_rank() {
  uint32 rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
// All threads of all blocks of the cluster that have not ended. Orders no memory accesses but of published barriers: a
// release to the cluster costs a fence over all of the GPU's memory. So it must not stand between stores to another
// block and that block's reads or end: barriers that count what arrives do.
__device__ __forceinline__ void sync_cluster() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;\n barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// The address, for accesses to shared::cluster, of what block `rank` keeps where this block keeps `p`.
__device__ __forceinline__ uint32 address_in(const void* p, uint32 rank) {
  uint32 address;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(p)), "r"(rank));
  return address;
}
// For reads that are over: orders no writes (see sync_cluster).
__device__ __forceinline__ void arrive_in(Mbarrier* barrier, uint32 rank) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(address_in(barrier, rank)) : "memory");
}
// Stores 16 bytes and completes 16 bytes of the phase of a barrier in the same block, both addresses from address_in.
__device__ __forceinline__ void store_in_cluster(uint32 address, uint32 barrier, float4 value) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%2, %3, %4, %5}, [%1];" ::"r"(address),
      "r"(barrier), "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w)
      : "memory");
}

// --- warps of a block -----------------------------------------------------------------------------------------------

// A barrier of `threads` threads of the block; 0 is the one of __syncthreads.
__device__ __forceinline__ void sync_threads(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
// True in one thread of a whole warp.
__device__ __forceinline__ bool elect_one() {
  uint32 chosen;
  asm volatile("{.reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p;}" : "=r"(chosen));
  return chosen != 0;
}
// Moves registers between warpgroups (sm_90a): every warp of a warpgroup, in a kernel with a register cap at entry.
template <int REGISTERS>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
