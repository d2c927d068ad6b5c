// The wide form on AMX tiles; everything else as with AVX-512. A tile product is C[16][16] += A[16][32] B[32][16] in
// bf16 with f32 sums, B holding pairs of its rows interleaved. With rows as lanes both products take the cache as A:
// scores = K q needs keys as they lie, result += V' weights needs the values transposed.

// g++ 12 takes the undefined operands inside its own intrinsics for mistakes.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include "kernels/cpu/attention_blocks-inl.h"

static_assert(HWY_TARGET == HWY_AVX3);

namespace ingot {
namespace {

// All eight tiles are 16 rows of 64 bytes.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileConfiguration kTiles;

// The upper halves of both, `even` in the lower half of each word.
__m512i join_upper_halves(__m512i even, __m512i odd) {
  return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(even, 16), odd);
}

struct TwoParts {
  __m512i upper, lower;
};

// Two vectors as pairs of bf16: the upper 8 bits of the significands, and the next 8, rounded.
TwoParts split(__m512 even, __m512 odd) {
  const __m512i mask = _mm512_set1_epi32(-65536), half = _mm512_set1_epi32(0x8000);
  const __m512i e = _mm512_castps_si512(even), o = _mm512_castps_si512(odd);
  const __m512 e_rest = _mm512_sub_ps(even, _mm512_castsi512_ps(_mm512_and_si512(e, mask)));
  const __m512 o_rest = _mm512_sub_ps(odd, _mm512_castsi512_ps(_mm512_and_si512(o, mask)));
  return {join_upper_halves(e, o), join_upper_halves(_mm512_add_epi32(_mm512_castps_si512(e_rest), half),
                                                     _mm512_add_epi32(_mm512_castps_si512(o_rest), half))};
}

// Where the second parts of a packed operand of `depth` rows lie: behind the first.
int64_t second_part(const AttentionRows& rows, int64_t depth) { return depth / 2 * rows.lanes; }

// q as pairs [k_stride / 2][lanes], both parts. Even and odd elements of a row come apart by the transposition.
void pack_queries(const AttentionRows& rows, const float* const* source, float factor) {
  auto* q = reinterpret_cast<uint32_t*>(rows.q);
  const int64_t second = second_part(rows, rows.k_stride);
  for (int64_t lane = 0; lane < rows.lanes; lane += 16) {
    for (int64_t i = 0; i < rows.k_stride; i += 16) {
      __m512i block[16];
#pragma GCC unroll 16
      for (int r = 0; r < 16; ++r)
        block[r] = _mm512_castps_si512(_mm512_mul_ps(load_query(rows, source, lane + r, i), _mm512_set1_ps(factor)));
      transpose(block);
#pragma GCC unroll 16
      for (int r = 0; r < 16; r += 2) {
        const TwoParts parts = split(_mm512_castsi512_ps(block[r]), _mm512_castsi512_ps(block[r + 1]));
        uint32_t* target = q + (i + r) / 2 * rows.lanes + lane;
        _mm512_storeu_si512(target, parts.upper);
        _mm512_storeu_si512(target + second, parts.lower);
      }
    }
  }
}

// Turns the scores of one vector of rows into weights, as pairs [kKeyBlock / 2][lanes] of both parts with zeros behind
// the last key, and updates the running maxima and sums of the rows.
void soften_scores(const AttentionRows& rows, int64_t lane, const AttentionKeys& keys) {
  if (!keys.all_seen || rows.soft_cap > 0) wide_adjust(rows, lane, keys);
  const float* scores = rows.scores + lane;
  const Vector before = hn::LoadU(kFloats, rows.greatest + lane), greatest = greatest_score(rows, lane, keys, before);
  const int64_t second = second_part(rows, kKeyBlock);
  uint32_t* weights = rows.weights + lane;
  Vector sum = hn::Zero(kFloats);
  for (int64_t key = 0; key < round_up(keys.count, 32); key += 2, weights += rows.lanes, scores += 2 * rows.lanes) {
    Vector even = hn::Zero(kFloats), odd = even;
    if (key < keys.count) even = exp2_of_negative(kFloats, hn::Sub(hn::LoadU(kFloats, scores), greatest));
    if (key + 1 < keys.count)
      odd = exp2_of_negative(kFloats, hn::Sub(hn::LoadU(kFloats, scores + rows.lanes), greatest));
    sum = hn::Add(hn::Add(sum, even), odd);
    const TwoParts parts = split(even.raw, odd.raw);
    _mm512_storeu_si512(weights, parts.upper);
    _mm512_storeu_si512(weights + second, parts.lower);
  }
  update_rows(rows, lane, {before, greatest, sum});
}

// v_bf16 [count][v_stride] to values_bf16 [v_stride][kKeyBlock].
void transpose_values(const AttentionRows& rows, const AttentionKeys& keys) {
  for (int64_t key = 0; key < keys.count; key += 32) {
    for (int64_t column = 0; column < rows.v_stride; column += 16) {
      __m512i block[16];
#pragma GCC unroll 16
      for (int pair = 0; pair < 16; ++pair) {
        const uint16_t* even = keys.v_bf16 + (key + 2 * pair) * rows.v_stride + column;
        const __m256i e = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(even));
        const __m256i o = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(even + rows.v_stride));
        block[pair] = _mm512_or_si512(_mm512_cvtepu16_epi32(e), _mm512_slli_epi32(_mm512_cvtepu16_epi32(o), 16));
      }
      transpose(block);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) _mm512_storeu_si512(rows.values_bf16 + (column + i) * kKeyBlock + key, block[i]);
    }
  }
}

// One operand pair of a product: A is [16 or more][depth], B pairs [depth / 2][lanes] with a second part.
struct TileOperands {
  const uint16_t* a;
  int64_t a_stride;
  const uint32_t* b;
  int64_t b_second, depth;
};

// Adds 16 rows of A times 32 lanes (16 if not kBoth) of B to the tiles 0 and 1. Few tile registers are in use, so that
// more are left for the loads and products in flight: a core has few, and shares them between its hardware threads.
template <bool kBoth>
HWY_INLINE void multiply_tiles(const AttentionRows& rows, const TileOperands& x) {
  const int64_t a_bytes = x.a_stride * 2, b_bytes = rows.lanes * 4;
  for (int64_t i = 0; i < x.depth; i += 32) {
    _tile_loadd(2, x.a + i, a_bytes);
    for (int64_t part = 0; part <= x.b_second; part += x.b_second) {
      const uint32_t* b = x.b + part + i / 2 * rows.lanes;
      _tile_loadd(3, b, b_bytes);
      _tile_dpbf16ps(0, 2, 3);
      if constexpr (kBoth) {
        _tile_loadd(3, b + 16, b_bytes);
        _tile_dpbf16ps(1, 2, 3);
      }
    }
  }
}

template <bool kBoth>
HWY_INLINE void store_tiles(const AttentionRows& rows, float* target) {
  const int64_t bytes = rows.lanes * 4;
  _tile_stored(0, target, bytes);
  if constexpr (kBoth) _tile_stored(1, target + 16, bytes);
}

template <bool kBoth>
void tile_scores(const AttentionRows& rows, int64_t lane, const AttentionKeys& keys) {
  const auto* q = reinterpret_cast<const uint32_t*>(rows.q) + lane;
  for (int64_t key = 0; key < keys.count; key += 16) {
    _tile_zero(0);
    _tile_zero(1);
    multiply_tiles<kBoth>(
        rows, {keys.k_bf16 + key * rows.k_stride, rows.k_stride, q, second_part(rows, rows.k_stride), rows.k_stride});
    store_tiles<kBoth>(rows, rows.scores + key * rows.lanes + lane);
  }
}

template <bool kBoth>
void tile_values(const AttentionRows& rows, int64_t lane, const AttentionKeys& keys) {
  const int64_t bytes = rows.lanes * 4;
  for (int64_t column = 0; column < rows.v_stride; column += 16) {
    float* result = rows.result + column * rows.lanes + lane;
    _tile_loadd(0, result, bytes);
    if constexpr (kBoth) _tile_loadd(1, result + 16, bytes);
    multiply_tiles<kBoth>(rows, {rows.values_bf16 + column * kKeyBlock, kKeyBlock, rows.weights + lane,
                                 second_part(rows, kKeyBlock), round_up(keys.count, 32)});
    store_tiles<kBoth>(rows, result);
  }
}

void rescale_results(const AttentionRows& rows, int64_t lane) {
  const __m512 factor = _mm512_loadu_ps(rows.factors + lane);
  if (_mm512_cmpeq_ps_mask(factor, _mm512_set1_ps(1)) == 0xffff) return;  // no maximum grew
  for (int64_t i = 0; i < rows.v_stride; ++i) {
    float* place = rows.result + i * rows.lanes + lane;
    _mm512_storeu_ps(place, _mm512_mul_ps(_mm512_loadu_ps(place), factor));
  }
}

void attend_tiles(const AttentionRows& rows, const AttentionKeys& keys) {
  _tile_loadconfig(&kTiles);
  transpose_values(rows, keys);
  for (int64_t lane = 0; lane < rows.lanes; lane += 32) {
    const bool both = lane + 16 < rows.lanes;
    both ? tile_scores<true>(rows, lane, keys) : tile_scores<false>(rows, lane, keys);
    for (int64_t half = lane; half < lane + (both ? 32 : 16); half += 16) {
      soften_scores(rows, half, keys);
      rescale_results(rows, half);
    }
    both ? tile_values<true>(rows, lane, keys) : tile_values<false>(rows, lane, keys);
  }
  _tile_release();
}

constexpr AttentionFunctions amx_functions() {
  AttentionFunctions functions = kFunctions;
  functions.stride_multiple = 32;
  functions.wide_takes_bf16 = true;
  functions.attend_wide = attend_tiles;
  functions.pack_wide = pack_queries;
  return functions;
}

}  // namespace

constinit const AttentionFunctions kAttentionFunctionsAmx = amx_functions();

}  // namespace ingot
