// Copies into shared memory that run while threads compute: 16 bytes a thread (any GPU), and contiguous pieces or boxes of a
// matrix that one thread starts and an mbarrier counts (sm_90 and later).
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
// Makes barrier_init() known to the copy engine and to the other blocks of the cluster.
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

// Addresses and bytes are multiples of 16. The data is read once: it leaves the second cache first.
__device__ __forceinline__ void copy_stream(uint32 shared_target, const void* source, uint32 bytes, uint32 barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
          shared_target),
      "l"(source), "r"(bytes), "r"(barrier), "l"(kEvictFirst)
      : "memory");
}
// Brings bytes into the second cache; nobody waits for it.
__device__ __forceinline__ void prefetch_stream(const void* source, uint32 bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(source), "r"(bytes) : "memory");
}

// A tensor map as a kernel's parameter.
struct alignas(64) TensorMap {
  uint64 words[16];
};
// The box whose first element is (column, row) of a matrix, or (0, row, slab) of a matrix in slabs of columns. Of data
// that is read once or, with ONCE = false, by other blocks as well.
template <bool ONCE>
__device__ __forceinline__ void copy_box(uint32 shared_target, const TensorMap* map, int column, int row,
                                         uint32 barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%3, %4}], "
      "[%2], %5;" ::"r"(shared_target),
      "l"(map), "r"(barrier), "r"(column), "r"(row), "l"(ONCE ? kEvictFirst : kEvictLast)
      : "memory");
}
template <bool ONCE>
__device__ __forceinline__ void copy_slabs(uint32 shared_target, const TensorMap* map, int row, int slab,
                                           uint32 barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%3, %4, "
      "%5}], [%2], %6;" ::"r"(shared_target),
      "l"(map), "r"(barrier), "r"(0), "r"(row), "r"(slab), "l"(ONCE ? kEvictFirst : kEvictLast)
      : "memory");
}
__device__ __forceinline__ void prefetch_map(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// --- clusters ---------------------------------------------------------------------------------------------------------

__device__ __forceinline__ uint32 cluster_rank() {
  uint32 rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
// A barrier of all threads of the cluster; shared memory written before is seen by all after it.
__device__ __forceinline__ void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// The address of the same shared variable in the block of that rank.
__device__ __forceinline__ uint32 cluster_address(uint32 shared, uint32 rank) {
  uint32 address;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared), "r"(rank));
  return address;
}
__device__ __forceinline__ float4 load_cluster(uint32 cluster_address) {
  float4 v;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(cluster_address));
  return v;
}

#endif
