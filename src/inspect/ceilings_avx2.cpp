#include <immintrin.h>
#include <stdint.h>

#include "inspect/ceiling_loops.h"

namespace ingot::avx2 {

namespace {

template <int kStreams>
uint64_t read(const void* data, int64_t bytes, int64_t prefetch) {
  auto* p = static_cast<const char*>(data);
  int64_t stride = bytes / kStreams;
  __m256i sum[2 * kStreams] = {};
  for (int64_t i = 0; i < stride; i += 64)
    for (int s = 0; s < kStreams; ++s) {
      const char* at = p + s * stride + i;
      if (prefetch) _mm_prefetch(at + prefetch, _MM_HINT_T0);
      sum[2 * s] = _mm256_xor_si256(sum[2 * s], _mm256_load_si256(reinterpret_cast<const __m256i*>(at)));
      sum[2 * s + 1] = _mm256_xor_si256(sum[2 * s + 1], _mm256_load_si256(reinterpret_cast<const __m256i*>(at + 32)));
    }
  for (int s = 1; s < 2 * kStreams; ++s) sum[0] = _mm256_xor_si256(sum[0], sum[s]);
  __m128i half = _mm_xor_si128(_mm256_castsi256_si128(sum[0]), _mm256_extracti128_si256(sum[0], 1));
  return static_cast<uint64_t>(_mm_extract_epi64(half, 0) ^ _mm_extract_epi64(half, 1));
}

// Twelve accumulators, as in the kernels: more than latency times ports. Each is kept alive on its own, or the compiler
// would merge them.
double multiply(int64_t rounds) {
  __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f), c[12];
  for (int j = 0; j < 12; ++j) c[j] = b;
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) c[j] = _mm256_fmadd_ps(c[j], a, b);
    __asm__ volatile("" : "+x"(c[0]), "+x"(c[1]), "+x"(c[2]), "+x"(c[3]), "+x"(c[4]), "+x"(c[5]));
    __asm__ volatile("" : "+x"(c[6]), "+x"(c[7]), "+x"(c[8]), "+x"(c[9]), "+x"(c[10]), "+x"(c[11]));
  }
  return 12 * 8 * 2;
}

}  // namespace

const ReadLoop kReadLoops[4] = {
    {"avx2 1 stream", read<1>}, {"avx2 2 streams", read<2>}, {"avx2 4 streams", read<4>}, {"avx2 8 streams", read<8>}};
const MatmulLoop kMatmulLoop = {"f32 fma avx2", true, multiply};

}  // namespace ingot::avx2
