// y = (x - mean) / sqrt(mean of squares + EPSILON) * gamma + beta over groups of SIZE neighbours, x = a or a + b
//
// CENTER: a layer norm; without it the mean counts as 0 and there is no beta. ADD: x = a + b, which is an output too.
// A group stays in the registers of THREADS threads from the one load to the one store; a mean is subtracted before
// squaring. Up to 32 threads need no barrier, and GROUPS groups share a block; more are a block of their own. gamma and
// beta are read while the kernel in front still runs, where they fit into registers. The caller sees to it that PACK
// divides SIZE and that buffers are at multiples of 16 bytes.
#include "device/elements.cuh"

constexpr int kGroupPacks = SIZE / PACK, kPacks = ceil_div(kGroupPacks, THREADS);
constexpr bool kPrefetch = kPacks * PACK <= 16;  // floats per thread
static_assert(THREADS <= 32 || GROUPS == 1, "a block holds one large group");

struct Values {
  float at[kPacks][PACK];
};

// f(i, offset of the pack in the group) for this thread's packs.
template <class F>
__device__ __forceinline__ void each_pack(int lane, F f) {
#pragma unroll
  for (int i = 0; i < kPacks; ++i) {
    const int pack = lane + i * THREADS;
    if (kGroupPacks % THREADS == 0 || pack < kGroupPacks) f(i, pack * PACK);
  }
}

template <class T>
__device__ __forceinline__ void load_group(const T* p, int lane, Values& values) {
  each_pack(lane, [&](int i, int offset) { load_floats<PACK>(p + offset, values.at[i]); });
}

__device__ __forceinline__ float group_sum(float x, float* shared) {
  if constexpr (THREADS > 32) {
    return block_sum<THREADS / 32>(x, shared);
  } else {
#pragma unroll
    for (int lane = THREADS / 2; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
    return x;
  }
}

__device__ __forceinline__ float group_sum_of(const Values& x, int lane, float* shared) {
  float sum = 0;
  each_pack(lane, [&](int i, int) {
#pragma unroll
    for (int j = 0; j < PACK; ++j) sum += x.at[i][j];
  });
  return group_sum(sum, shared);
}

__device__ __forceinline__ float group_squares(const Values& x, int lane, float* shared) {
  float sum = 0;
  each_pack(lane, [&](int i, int) {
#pragma unroll
    for (int j = 0; j < PACK; ++j) sum += x.at[i][j] * x.at[i][j];
  });
  return group_sum(sum, shared);
}

extern "C" __global__ void __launch_bounds__(THREADS* GROUPS)
    normalize(const A_TYPE* a, const B_TYPE* b, const float* gamma, const float* beta, A_TYPE* sum, A_TYPE* y,
              int64 groups) {
  __shared__ float shared[2][greater(THREADS / 32, 1)];
  allow_next();
  const int lane = threadIdx.x % THREADS;
  const int64 group = int64(blockIdx.x) * GROUPS + threadIdx.x / THREADS;
  const bool active = group < groups;
  // Threads without a group take part in the shuffles with the last one.
  const int64 begin = (active ? group : groups - 1) * SIZE;
  Values gammas, betas, x;
  if (kPrefetch) load_group(gamma, lane, gammas);
  if (kPrefetch && CENTER) load_group(beta, lane, betas);
  wait_for_previous();

  load_group(a + begin, lane, x);
  if (ADD) {
    Values other;
    load_group(b + begin, lane, other);
    each_pack(lane, [&](int i, int offset) {
#pragma unroll
      for (int j = 0; j < PACK; ++j) x.at[i][j] += other.at[i][j];
      if (active) store_floats<PACK>(sum + begin + offset, x.at[i]);
    });
  }
  if (CENTER) {
    const float mean = group_sum_of(x, lane, shared[1]) / float(SIZE);
    each_pack(lane, [&](int i, int) {
#pragma unroll
      for (int j = 0; j < PACK; ++j) x.at[i][j] -= mean;
    });
    if (THREADS > 32) __syncthreads();  // the compiler reads the sums in wider pieces than one of the two lists
  }
  const float factor = rsqrtf(group_squares(x, lane, shared[0]) / float(SIZE) + EPSILON);
  if (!active) return;
  each_pack(lane, [&](int i, int offset) {
    if (!kPrefetch) load_floats<PACK>(gamma + offset, gammas.at[i]);
    if (!kPrefetch && CENTER) load_floats<PACK>(beta + offset, betas.at[i]);
#pragma unroll
    for (int j = 0; j < PACK; ++j) {
      x.at[i][j] *= factor * gammas.at[i][j];
      if (CENTER) x.at[i][j] += betas.at[i][j];
    }
    store_floats<PACK>(y + begin + offset, x.at[i]);
  });
}
