// Copies into shared memory that run while threads compute: 16 bytes a thread (sm_80 and later), and contiguous pieces that
// one thread starts and an mbarrier counts (sm_90 and later).
#pragma once

#include "device/prelude.cuh"

// --- 16 bytes a thread ----------------------------------------------------------------------------------------------

// Copies the first `bytes` (0 … 16) of 16 and writes zeros for the rest; with 0 nothing is read.
__device__ __forceinline__ void copy_16(uint32 shared_target, const void* source, int bytes = 16) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_target), "l"(source), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits for this thread's copies but the last `PENDING` groups of them.
template <int PENDING>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

#if __CUDA_ARCH__ >= 900

// --- mbarriers: a phase ends when all arrivals and all announced bytes are there --------------------------------------

__device__ __forceinline__ void barrier_init(uint32 barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
// Makes barrier_init() known to the copy engine.
__device__ __forceinline__ void barrier_init_done() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void barrier_arrive(uint32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Arrives and announces bytes that copies will bring.
__device__ __forceinline__ void barrier_expect(uint32 barrier, uint32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// Waits until the phase of this parity has ended. Parities repeat: no thread may fall two phases behind.
__device__ __forceinline__ void barrier_wait(uint32 barrier, uint32 parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

constexpr uint64 kEvictFirst = 0x12f0000000000000ull, kEvictLast = 0x14f0000000000000ull;  // cache policies

// --- copies that one thread starts; their bytes count at `barrier` ----------------------------------------------------

// Addresses and bytes are multiples of 16. Data that is read once leaves the second cache first; ONCE = false: other blocks
// read it as well.
template <bool ONCE>
__device__ __forceinline__ void copy_bytes(uint32 shared_target, const void* source, uint32 bytes, uint32 barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
          shared_target),
      "l"(source), "r"(bytes), "r"(barrier), "l"(ONCE ? kEvictFirst : kEvictLast)
      : "memory");
}

#endif
