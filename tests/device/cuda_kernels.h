// Small kernels that show one ability of a device each.
#pragma once

inline constexpr const char* kTestKernels = R"code(
#pragma once
#include "device/prelude.cuh"

// y[i] = x[i] * a + b, for any grid.
extern "C" __global__ void scale(const float* x, float* y, int n, float a, float b) {
  allow_next();
  wait_for_previous();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = x[i] * a + b;
}

// One link of a chain: each block reads what all blocks of the link before wrote.
extern "C" __global__ void link(const uint32* x, uint32* y) {
  allow_next();
  wait_for_previous();
  uint32 sum = 0;
  for (unsigned b = 0; b < gridDim.x; ++b) sum += x[b * blockDim.x + threadIdx.x];
  y[blockIdx.x * blockDim.x + threadIdx.x] = sum * 3 + blockIdx.x;
}

extern "C" __global__ void spin(int64 nanoseconds) {
  uint64 begin, now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(begin));
  do asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  while (now - begin < nanoseconds);
}

// Reverses n words through dynamic shared memory.
extern "C" __global__ void reverse(uint32* x, int n) {
  extern __shared__ uint32 words[];
  for (int i = threadIdx.x; i < n; i += blockDim.x) words[i] = x[i];
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += blockDim.x) x[i] = words[n - 1 - i];
}

// Passes only when all blocks run at once.
extern "C" __global__ void meet(uint32* count, uint32* seen) {
  if (threadIdx.x == 0) {
    atomicAdd(count, 1);
    while (*(volatile uint32*)count < gridDim.x) {
    }
    seen[blockIdx.x] = *(volatile uint32*)count;
  }
}

extern "C" __global__ void trap() { asm volatile("trap;"); }
extern "C" __global__ void write_nowhere(float* p) { p[threadIdx.x] = 1; }

#if __CUDA_ARCH__ >= 900
// Every block tells its rank to the next block of its cluster through that block's shared memory.
extern "C" __global__ void around(uint32* out) {
  __shared__ uint32 word;
  uint32 rank, size, address;
  asm("mov.u32 %0, %cluster_ctarank;" : "=r"(rank));
  asm("mov.u32 %0, %cluster_nctarank;" : "=r"(size));
  asm volatile("barrier.cluster.arrive; barrier.cluster.wait;" ::: "memory");
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(&word)), "r"((rank + 1) % size));
  if (threadIdx.x == 0)
    asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(address), "r"(blockIdx.x * 100 + rank) : "memory");
  asm volatile("barrier.cluster.arrive; barrier.cluster.wait;" ::: "memory");
  if (threadIdx.x == 0) out[blockIdx.x] = word;
}

// Copies the 16 x 8 box at (x, y) of a map of words, which outside reads as zero.
struct alignas(64) Map {
  char bytes[128];
};
extern "C" __global__ void load_box(const __grid_constant__ Map map, uint32* out, int x, int y) {
  __shared__ alignas(128) uint32 box[8 * 16];
  __shared__ alignas(8) uint64 barrier;
  const uint32 at = shared_address(&barrier);
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared.b64 [%0], 1; fence.mbarrier_init.release.cluster;" ::"r"(at) : "memory");
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(at), "r"(512) : "memory");
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
            shared_address(box)),
        "l"(&map), "r"(x), "r"(y), "r"(at)
        : "memory");
  }
  __syncthreads();
  uint32 done = 0;
  while (!done)
    asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], 0; selp.u32 %0, 1, 0, p;}"
                 : "=r"(done)
                 : "r"(at)
                 : "memory");
  out[threadIdx.x] = box[threadIdx.x];
}
#endif
)code";
