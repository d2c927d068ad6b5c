// Heads of a packed row, each normed and rotated where asked, to where they belong: the ops rope, kv_write and
// rope_kv_write.
//
// A row of x holds Q_HEADS, then K_HEADS, then V_HEADS heads of HEAD_SIZE elements. Those of q and k are multiplied by
// gamma / rms (NORM) and rotated by the token's angles; q goes to y, k and v to slots[token] of their caches
// [pages, heads, PAGE_SIZE, HEAD_SIZE], nowhere when the slot is -1.
//
// LANES neighbouring threads own a head. Its unit of work is two packs of PACK elements: for the first ROTATED elements
// the two that hold the two halves of its pairs, behind them simply the next two. So a rotation needs no exchange
// between threads, and a norm only the sum over LANES. The caller sees to it that PACK divides ROTATED / 2 and
// HEAD_SIZE - ROTATED and that buffers are at multiples of 16 bytes.
#include "device/elements.cuh"

constexpr int kHeads = Q_HEADS + K_HEADS + V_HEADS;
constexpr int kPairUnits = ROTATED / 2 / PACK, kRestPacks = (HEAD_SIZE - ROTATED) / PACK;
constexpr int kUnits = kPairUnits + ceil_div(kRestPacks, 2), kPerLane = ceil_div(kUnits, LANES);
static_assert((LANES & (LANES - 1)) == 0 && LANES <= 32, "lanes of one warp");

// Where the two packs of a unit begin in their head.
struct Unit {
  int first, second;
  bool has_first, has_second;
};

__device__ __forceinline__ Unit unit_at(int unit) {
  if (unit < kPairUnits) {
    if (INTERLEAVED) return {2 * unit * PACK, (2 * unit + 1) * PACK, true, true};
    return {unit * PACK, ROTATED / 2 + unit * PACK, true, true};
  }
  const int pack = 2 * (unit - kPairUnits);
  return {ROTATED + pack * PACK, ROTATED + (pack + 1) * PACK, pack < kRestPacks, pack + 1 < kRestPacks};
}

// Rotates the pairs of one unit, whose cosines and sines begin at `cosines` and `sines`.
__device__ __forceinline__ void rotate(float (&x)[2 * PACK], const float* cosines, const float* sines) {
  float cosine[PACK], sine[PACK];
  load_floats<PACK>(cosines, cosine);
  load_floats<PACK>(sines, sine);
#pragma unroll
  for (int j = 0; j < PACK; ++j) {
    float& a = x[INTERLEAVED ? 2 * j : j];
    float& b = x[INTERLEAVED ? 2 * j + 1 : PACK + j];
    const float rotated = a * cosine[j] - b * sine[j];
    b = b * cosine[j] + a * sine[j];
    a = rotated;
  }
}

// One head in the registers of its lanes.
struct Head {
  float at[kPerLane][2 * PACK];

  __device__ __forceinline__ void load(const X_TYPE* x, int lane) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const Unit unit = unit_at(lane + i * LANES);
#pragma unroll
      for (int j = 0; j < 2 * PACK; ++j) at[i][j] = 0;
      if (unit.has_first) load_floats<PACK>(x + unit.first, at[i]);
      if (unit.has_second) load_floats<PACK>(x + unit.second, at[i] + PACK);
    }
  }

  // All lanes of the warp take part; only those with `wanted` change anything.
  __device__ __forceinline__ void norm(const float* gamma, int lane, bool wanted) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i)
#pragma unroll
      for (int j = 0; j < 2 * PACK; ++j) sum += at[i][j] * at[i][j];
#pragma unroll
    for (int other = LANES / 2; other > 0; other /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, other);
    if (!wanted) return;
    const float factor = rsqrtf(sum / float(HEAD_SIZE) + EPSILON);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const Unit unit = unit_at(lane + i * LANES);
      float gammas[2 * PACK] = {};
      if (unit.has_first) load_floats<PACK>(gamma + unit.first, gammas);
      if (unit.has_second) load_floats<PACK>(gamma + unit.second, gammas + PACK);
#pragma unroll
      for (int j = 0; j < 2 * PACK; ++j) at[i][j] *= factor * gammas[j];
    }
  }

  __device__ __forceinline__ void rotate_by(const float* angles, int lane) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int pairs = (lane + i * LANES) * PACK;
      if (pairs < ROTATED / 2) rotate(at[i], angles + pairs, angles + ROTATED / 2 + pairs);
    }
  }

  template <class T>
  __device__ __forceinline__ void store(T* y, int lane) const {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const Unit unit = unit_at(lane + i * LANES);
      if (unit.has_first) store_floats<PACK>(y + unit.first, at[i]);
      if (unit.has_second) store_floats<PACK>(y + unit.second, at[i] + PACK);
    }
  }
};

__device__ __forceinline__ int64 cache_offset(int slot, int head, int heads) {
  return ((int64(slot) / PAGE_SIZE * heads + head) * PAGE_SIZE + slot % PAGE_SIZE) * HEAD_SIZE;
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    rope(const X_TYPE* x, const float* angles, const int* slots, const float* q_gamma, const float* k_gamma, X_TYPE* y,
         K_TYPE* k_cache, V_TYPE* v_cache, int tokens) {
  allow_next();
  const int64 thread = int64(blockIdx.x) * BLOCK + threadIdx.x, all = int64(tokens) * kHeads;
  const int lane = threadIdx.x % LANES;
  const bool active = thread / LANES < all;
  // Threads without a head take part in the shuffles with the last one.
  const int64 at = active ? thread / LANES : all - 1;
  const int64 token = at / kHeads;
  const int head = int(at - token * kHeads);
  const bool is_q = head < Q_HEADS, is_v = head >= Q_HEADS + K_HEADS;
  wait_for_previous();

  const int slot = is_q ? -1 : slots[token];
  Head values;
  values.load(x + at * HEAD_SIZE, lane);
  if (NORM) values.norm(is_q ? q_gamma : k_gamma, lane, !is_v);
  if (ROTATED > 0 && !is_v) values.rotate_by(angles + token * ROTATED, lane);
  if (!active) return;
  if (is_q) {
    values.store(y + (token * Q_HEADS + head) * HEAD_SIZE, lane);
  } else if (slot >= 0 && is_v) {
    values.store(v_cache + cache_offset(slot, head - Q_HEADS - K_HEADS, V_HEADS), lane);
  } else if (slot >= 0) {
    values.store(k_cache + cache_offset(slot, head - Q_HEADS, K_HEADS), lane);
  }
}
