// What all attention kernels know of a step (ops/attention.h): constants from the #defines, where a sequence lies, what
// its tokens see, how scores become weights.
//
// #defines: QT and KT, the dtypes of q and of the states (float, bf16, f16); HEADS, KV_HEADS, PAGE (positions per
// page), HEAD and V_HEAD (sizes of k and v vectors), SCALE, SOFT_CAP (0: none), WINDOW (0: all).
//
// A slot is a position counted from the first slot of the sequence's first listed page.
//
// Read before the kernels in front have ended (wait_for_previous): the lists of the step and, of a sequence's keys and
// values, what earlier steps wrote. No kernel of a step writes either. They are complete before its first kernel starts
// because the copy of the step's inputs lies in front of that one on the stream, behind all of the step before. The
// slots of the step's own tokens, and q, are read after the wait.
#pragma once

#include "device/prelude.cuh"

namespace attention {

constexpr int kGroup = HEADS / KV_HEADS;  // query heads that share a kv head
constexpr double kLog2E = 1.4426950408889634;
constexpr uint32 kAll = 0xffffffffu;

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
constexpr int greatest_divisor(int a, int b) { return b == 0 ? a : greatest_divisor(b, a % b); }

struct Step {
  const int *query_starts, *context_lengths, *page_starts, *page_list, *context_starts;
  int sequences;
};

// One sequence of a step.
struct Sequence {
  int first_token, tokens;
  int end_slot;    // behind the last token's slot; 0 or less: there is no context
  int page_begin;  // in page_list
};

__device__ __forceinline__ Sequence sequence_at(const Step& step, int s) {
  int first = step.query_starts[s];
  return {first, step.query_starts[s + 1] - first, step.context_lengths[s] - step.context_starts[s],
          step.page_starts[s]};
}

// The slots that a token sees whose own slot is in front of `end`: [first_visible(end), end).
__device__ __forceinline__ int first_visible(int end) { return WINDOW > 0 ? max(0, end - WINDOW) : 0; }

// --- scores ---------------------------------------------------------------------------------------------------------

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// A product of q and k becomes a score, and a score times kScoreScale is the exponent of 2 that stands for its weight.
// The scale can wait until a greatest score is subtracted: one operation for both.
constexpr bool kScaleLater = SOFT_CAP == 0.0f && SCALE > 0.0f;
constexpr float kScoreScale = kScaleLater ? float(SCALE * kLog2E) : 1.0f;

// tanh(x) = 1 - 2 / (1 + exp(2x)), with the sign of x taken out, is exact to 5 roundings of 1; tanh.approx is not.
__device__ __forceinline__ float score_of(float product) {
  if (kScaleLater) return product;
  if (SOFT_CAP == 0.0f) return product * float(SCALE * kLog2E);
  float x = product * (SCALE / (SOFT_CAP == 0.0f ? 1.0f : SOFT_CAP));
  float tanh = 1.0f - 2.0f * reciprocal_fast(1.0f + exp2_fast(fabsf(x) * float(2 * kLog2E)));
  return copysignf(tanh, x) * float(SOFT_CAP * kLog2E);
}
__device__ __forceinline__ float exponent_of(float product) { return score_of(product) * kScoreScale; }

__device__ __forceinline__ float minus_infinity() { return __uint_as_float(0xff800000u); }

// The pair q[0], q[1] in the dtype of the states.
template <class T, class Q>
__device__ __forceinline__ uint32 load_pair(const Q* q) {
  Pack<Q, 2> pair = load_pack<2>(q);
  return pair_from_float(T{}, to_float(pair.at[0]), to_float(pair.at[1]));
}

template <class A, class B>
constexpr bool kSameType = false;
template <class A>
constexpr bool kSameType<A, A> = true;

// Eight elements of q from a multiple of 8 on, in the dtype of the states.
template <class T, class Q>
__device__ __forceinline__ uint4 load_eight(const Q* q) {
  if constexpr (kSameType<T, Q>)
    return *reinterpret_cast<const uint4*>(q);
  else
    return {load_pair<T>(q), load_pair<T>(q + 2), load_pair<T>(q + 4), load_pair<T>(q + 6)};
}

// --- pages ----------------------------------------------------------------------------------------------------------

// Where (page, kv head, offset in the page) begins in a state whose vectors have `size` elements.
__device__ __forceinline__ int64 vector_begin(int page, int kv_head, int offset, int size) {
  return ((int64(page) * KV_HEADS + kv_head) * PAGE + offset) * size;
}

}  // namespace attention
