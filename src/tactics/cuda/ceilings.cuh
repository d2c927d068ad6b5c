// What a GPU's memory can give at best: kernels that only read, in a few shapes, and random numbers to read and
// multiply.
//
// read_U: blocks take tiles of blockDim.x * U packs of 16 bytes in turn, every thread U packs at a time, one block's
// width apart. The compiler keeps four of them in flight, so 2048 threads have 128 KiB on their way to a
// multiprocessor; 64 KiB would do. The caller gives whole tiles: `packs` is a multiple of blockDim.x * U.
#pragma once

#include "device/prelude.cuh"

template <int U>
__device__ __forceinline__ void read_tiles(const uint4* data, int64 packs, uint32* sink) {
  const int64 tile = int64(blockDim.x) * U, tiles = packs / tile;
  uint4 sum = {0, 0, 0, 0};
#pragma unroll 1
  for (int64 t = blockIdx.x; t < tiles; t += gridDim.x) {
    const uint4* p = data + t * tile + threadIdx.x;
    uint4 v[U];
#pragma unroll
    for (int u = 0; u < U; ++u) v[u] = load_weight(p + u * blockDim.x);
#pragma unroll
    for (int u = 0; u < U; ++u) sum = {sum.x ^ v[u].x, sum.y ^ v[u].y, sum.z ^ v[u].z, sum.w ^ v[u].w};
  }
  if ((sum.x ^ sum.y ^ sum.z ^ sum.w) == 0x9e3779b9u) *sink = sum.x;  // so that the reads have a use
}

extern "C" __global__ void __launch_bounds__(1024) read_4(const uint4* data, int64 packs, uint32* sink) {
  read_tiles<4>(data, packs, sink);
}
extern "C" __global__ void __launch_bounds__(1024) read_8(const uint4* data, int64 packs, uint32* sink) {
  read_tiles<8>(data, packs, sink);
}

__device__ __forceinline__ uint32 scrambled(uint64 x) {
  x *= 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93ull;
  return uint32(x >> 32);
}

// Pairs of normally distributed bf16.
extern "C" __global__ void fill_normal(uint32* data, int64 pairs, uint64 seed) {
  for (int64 i = int64(blockIdx.x) * blockDim.x + threadIdx.x; i < pairs; i += int64(gridDim.x) * blockDim.x) {
    const float u = (float(scrambled(seed + 2 * i)) + 1.0f) * 2.3283064e-10f;
    const float angle = float(scrambled(seed + 2 * i + 1)) * 1.4629180e-9f;
    const float radius = sqrtf(-2.0f * __logf(fminf(u, 1.0f)));
    data[i] = pair_from_float(bf16{}, radius * __cosf(angle), radius * __sinf(angle));
  }
}
