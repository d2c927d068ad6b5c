// The TOP_K experts of every token by softmax(logits), and their probabilities, divided by their sum with NORMALIZE.
//
// A warp owns a token, a lane the experts lane, lane + 32, …; the choice is TOP_K times the greatest of a warp. Logits
// are compared as integers in the same order, 0 for what is absent or taken, so that any logits, NaN too, give TOP_K
// different experts.
#include "device/prelude.cuh"

constexpr int kPerLane = (EXPERTS + 31) / 32, kChosenPerLane = (TOP_K + 31) / 32;

__device__ __forceinline__ uint32 ordered(float x) {
  const uint32 bits = __float_as_uint(x + 0.0f);  // -0 is 0
  const uint32 key = bits >> 31 ? ~bits : bits | 0x80000000u;
  return key == 0 ? 1 : key;
}
__device__ __forceinline__ float unordered(uint32 key) { return __uint_as_float(key >> 31 ? key ^ 0x80000000u : ~key); }

extern "C" __global__ void __launch_bounds__(BLOCK) route(const X_TYPE* logits, int* ids, float* weights, int tokens) {
  allow_next();
  const int lane = threadIdx.x % 32, token = (blockIdx.x * BLOCK + threadIdx.x) / 32;
  wait_for_previous();
  if (token >= tokens) return;
  uint32 keys[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = lane + 32 * i;
    keys[i] = expert < EXPERTS ? ordered(to_float(logits[int64(token) * EXPERTS + expert])) : 0;
  }

  uint32 greatest = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) greatest = keys[i] > greatest ? keys[i] : greatest;
  const float top = unordered(__reduce_max_sync(0xffffffffu, greatest));
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i)
    if (!NORMALIZE && keys[i] != 0) sum += expf(unordered(keys[i]) - top);

  // Lane j keeps choices j, j + 32, ….
  int chosen[kChosenPerLane];
  float exponential[kChosenPerLane];
#pragma unroll
  for (int j = 0; j < TOP_K; ++j) {
    uint32 key = 0, expert = EXPERTS;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i)
      if (keys[i] > key) key = keys[i], expert = lane + 32 * i;
    const uint32 best = __reduce_max_sync(0xffffffffu, key);
    expert = __reduce_min_sync(0xffffffffu, key == best ? expert : 0xffffffffu);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i)
      if (expert == lane + 32 * i) keys[i] = 0;
    if (lane == j % 32) {
      chosen[j / 32] = int(expert);
      exponential[j / 32] = expf(unordered(best) - top);
      if (NORMALIZE) sum += exponential[j / 32];
    }
  }
  sum = warp_sum(sum);
#pragma unroll
  for (int i = 0; i < kChosenPerLane; ++i) {
    const int j = lane + 32 * i;
    if (j >= TOP_K) break;
    ids[int64(token) * TOP_K + j] = chosen[i];
    weights[int64(token) * TOP_K + j] = exponential[i] / sum;
  }
}
