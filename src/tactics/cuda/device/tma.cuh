// Tiles of tensors into shared memory by the copy engine (TMA), through a tensor map. Needs sm_90.
//
// One thread starts a copy. It completes on an mbarrier that expects the bytes of the whole box, what lies outside of
// the tensor (read as zero) included. Shared addresses are multiples of 128 bytes, of 1024 (512, 256) with the 128-byte
// (64, 32) swizzle.
#pragma once

#include "device/mbarrier.cuh"

// A CUtensorMap: a kernel takes it as `const __grid_constant__ TensorMap`.
struct alignas(64) TensorMap {
  uint64 words[16];
};

// How the second cache treats what is loaded.
enum : uint64 {
  kEvictNormal = 0x1000000000000000ull,
  kEvictFirst = 0x12f0000000000000ull,
  kEvictLast = 0x14f0000000000000ull,
};

__device__ __forceinline__ void prefetch_map(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// The box at element (x, y): x along the fastest dimension.
__device__ __forceinline__ void load_box(void* shared, const TensorMap& map, Mbarrier* barrier, int x, int y,
                                         uint64 policy = kEvictNormal) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%3, %4}], [%2], %5;" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "l"(policy)
      : "memory");
}
__device__ __forceinline__ void load_box(void* shared, const TensorMap& map, Mbarrier* barrier, int x, int y, int z,
                                         uint64 policy) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "l"(policy)
      : "memory");
}
__device__ __forceinline__ void load_box(void* shared, const TensorMap& map, Mbarrier* barrier, int x, int y, int z,
                                         int w, uint64 policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "r"(w), "l"(policy)
      : "memory");
}
// The same box into the same place of every block of the cluster whose bit is set in `blocks`, each completing on its
// own barrier there.
__device__ __forceinline__ void load_box_in_cluster(void* shared, const TensorMap& map, Mbarrier* barrier, int x, int y,
                                                    uint16 blocks, uint64 policy = kEvictNormal) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
      ".L2::cache_hint [%0], [%1, {%3, %4}], [%2], %5, %6;" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "h"(blocks), "l"(policy)
      : "memory");
}

__device__ __forceinline__ void load_box_in_cluster(void* shared, const TensorMap& map, Mbarrier* barrier, int x, int y,
                                                    int z, uint16 blocks, uint64 policy) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
      ".L2::cache_hint [%0], [%1, {%3, %4, %5}], [%2], %6, %7;" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "h"(blocks), "l"(policy)
      : "memory");
}

// In every thread that wrote to shared memory what copies (or wgmma) read next, before the barrier between them.
__device__ __forceinline__ void publish_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Where the copy engine puts byte `offset` of a box whose rows are WIDTH bytes with the swizzle of that width (128, 64,
// 32): chunks of 16 bytes trade places within their row.
template <int WIDTH>
__device__ __forceinline__ uint32 swizzled(uint32 offset) {
  return offset ^ (((offset >> 7) & (WIDTH / 16 - 1)) << 4);
}
