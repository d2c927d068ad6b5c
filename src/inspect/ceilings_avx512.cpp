#include <immintrin.h>
#include <stdint.h>

#include "inspect/ceiling_loops.h"

namespace ingot::avx512 {

namespace {

template <int kStreams>
uint64_t read(const void* data, int64_t bytes, int64_t prefetch) {
  auto* p = static_cast<const char*>(data);
  int64_t stride = bytes / kStreams;
  __m512i sum[kStreams] = {};
  for (int64_t i = 0; i < stride; i += 64)
    for (int s = 0; s < kStreams; ++s) {
      const char* at = p + s * stride + i;
      if (prefetch) _mm_prefetch(at + prefetch, _MM_HINT_T0);
      sum[s] = _mm512_xor_si512(sum[s], _mm512_load_si512(at));
    }
  alignas(64) uint64_t out[8];
  for (int s = 1; s < kStreams; ++s) sum[0] = _mm512_xor_si512(sum[0], sum[s]);
  _mm512_store_si512(out, sum[0]);
  return out[0] ^ out[1] ^ out[2] ^ out[3] ^ out[4] ^ out[5] ^ out[6] ^ out[7];
}

// Twenty-four accumulators, each kept alive on its own, or the compiler would merge them.
template <class Multiply>
inline void multiply_rounds(int64_t rounds, Multiply multiply) {
  __m512 c[24];
  for (int j = 0; j < 24; ++j) c[j] = _mm512_set1_ps(0.001f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
    for (int j = 0; j < 24; ++j) c[j] = multiply(c[j]);
    __asm__ volatile(""
                     : "+v"(c[0]), "+v"(c[1]), "+v"(c[2]), "+v"(c[3]), "+v"(c[4]), "+v"(c[5]), "+v"(c[6]), "+v"(c[7]));
    __asm__ volatile(""
                     : "+v"(c[8]), "+v"(c[9]), "+v"(c[10]), "+v"(c[11]), "+v"(c[12]), "+v"(c[13]), "+v"(c[14]),
                       "+v"(c[15]));
    __asm__ volatile(""
                     : "+v"(c[16]), "+v"(c[17]), "+v"(c[18]), "+v"(c[19]), "+v"(c[20]), "+v"(c[21]), "+v"(c[22]),
                       "+v"(c[23]));
  }
}

double multiply_f32(int64_t rounds) {
  __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  multiply_rounds(rounds, [=](__m512 c) { return _mm512_fmadd_ps(c, a, b); });
  return 24 * 16 * 2;
}

double multiply_bf16(int64_t rounds) {
  __m512 half = _mm512_set1_ps(0.01f);
  __m512bh a = _mm512_cvtne2ps_pbh(half, half);
  __asm__ volatile("" : "+v"(a));
  multiply_rounds(rounds, [=](__m512 c) { return _mm512_dpbf16_ps(c, a, a); });
  return 24 * 32 * 2;
}

}  // namespace

const ReadLoop kReadLoops[4] = {{"avx512 1 stream", read<1>},
                                {"avx512 2 streams", read<2>},
                                {"avx512 4 streams", read<4>},
                                {"avx512 8 streams", read<8>}};
const MatmulLoop kMatmulLoop = {"f32 fma avx512", true, multiply_f32};
const MatmulLoop kBf16Loop = {"bf16 dot product avx512", false, multiply_bf16};

}  // namespace ingot::avx512
