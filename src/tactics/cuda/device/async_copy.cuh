// Copies of contiguous bytes into shared memory by the copy engine, started by one thread and counted by an mbarrier.
// Needs sm_90.
#pragma once

#include "device/mbarrier.cuh"

// Addresses and bytes are multiples of 16. Data that is read once leaves the second cache first; ONCE = false: other
// blocks read it as well.
template <bool ONCE>
__device__ __forceinline__ void copy_bytes(void* shared, const void* source, uint32 bytes, Mbarrier* barrier) {
  constexpr uint64 kPolicy = ONCE ? 0x12f0000000000000ull : 0x14f0000000000000ull;
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
          "r"(shared_address(shared)),
      "l"(source), "r"(bytes), "r"(shared_address(barrier)), "l"(kPolicy)
      : "memory");
}
