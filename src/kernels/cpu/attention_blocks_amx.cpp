// The wide form on AMX tiles; everything else as with AVX-512. A tile product is C[16][16] += A[16][32] B[32][16] in
// bf16 with f32 sums, B holding pairs of its rows interleaved. With rows as lanes both products take the cache as A:
// scores = K q needs keys as they lie, result += V' weights needs the values transposed.
//
// Rows go in groups of 32, two tiles side by side. A group meets kStep keys at a time, so that its queries, scores and
// results stay in the first level while keys and values come from the second, where they are laid out once for all
// groups. q is [group][part][k_stride / 2][32] pairs, result [group][v_stride][32].
//
// Queries and weights are split into two bf16 each, which keeps 16 bits of their significands.

// g++ 12 takes the undefined operands inside its own intrinsics for mistakes.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include "kernels/cpu/attention_blocks-inl.h"

static_assert(HWY_TARGET == HWY_AVX3);

namespace ingot {
namespace {

constexpr int64_t kGroup = 32;  // rows
constexpr int64_t kStep = 64;   // keys; their scores fit rows.scores
constexpr int64_t kGroupedRows = 4 * kMaxWideRows, kKeysAtOnce = 512;
// Weights are relative to a maximum that may be this much too small: then results need rescaling only for a row's first
// keys, as a rule. 2^16 times the number of positions is far from overflow.
constexpr float kSlack = 16;
static_assert(kStep * kGroup <= kMaxWideRows * kKeyBlock);

// All eight tiles are 16 rows of 64 bytes.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileConfiguration kTiles;

struct TwoParts {
  __m512i upper, lower;
};

// Two vectors as pairs of bf16, `even` in the lower half of each word: the upper 8 bits of the significands, and the
// next 8, rounded.
HWY_INLINE TwoParts split(__m512 even, __m512 odd) {
  const __m512i upper_half = _mm512_set1_epi32(-65536);
  const auto join = [&](__m512i e, __m512i o) {
    return _mm512_ternarylogic_epi32(_mm512_srli_epi32(e, 16), o, upper_half, 0xf8);  // a | (b & c)
  };
  const auto rest = [&](__m512 x, __m512i bits) {  // rounded, where join cuts
    const __m512 upper = _mm512_castsi512_ps(_mm512_and_si512(bits, upper_half));
    return _mm512_add_epi32(_mm512_castps_si512(_mm512_sub_ps(x, upper)), _mm512_set1_epi32(0x8000));
  };
  const __m512i e = _mm512_castps_si512(even), o = _mm512_castps_si512(odd);
  return {join(e, o), join(rest(even, e), rest(odd, o))};
}

int64_t part_words(const AttentionRows& rows) { return rows.k_stride / 2 * kGroup; }
uint32_t* queries_of(const AttentionRows& rows, int64_t lane) {
  return reinterpret_cast<uint32_t*>(rows.q) + lane * rows.k_stride;
}
float* results_of(const AttentionRows& rows, int64_t lane) { return rows.result + lane * rows.v_stride; }

void reset_tiles(const AttentionRows& rows, bool wide) {
  if (!wide) return reset(rows, false);
  fill(rows.greatest, kHiddenScore, rows.lanes);
  fill(rows.sums, 0, rows.lanes);
  fill(rows.result, 0, rows.v_stride * rows.lanes);
}

// Even and odd elements of a row come apart by the transposition.
void pack_queries(const AttentionRows& rows, const float* const* source, float factor) {
  for (int64_t lane = 0; lane < rows.lanes; lane += 16) {
    uint32_t* q = queries_of(rows, lane / kGroup * kGroup) + lane % kGroup;
    for (int64_t i = 0; i < rows.k_stride; i += 16) {
      __m512i block[16];
#pragma GCC unroll 16
      for (int r = 0; r < 16; ++r)
        block[r] = _mm512_castps_si512(_mm512_mul_ps(load_query(rows, source, lane + r, i), _mm512_set1_ps(factor)));
      transpose(block);
#pragma GCC unroll 16
      for (int r = 0; r < 16; r += 2) {
        const TwoParts parts = split(_mm512_castsi512_ps(block[r]), _mm512_castsi512_ps(block[r + 1]));
        uint32_t* target = q + (i + r) / 2 * kGroup;
        _mm512_storeu_si512(target, parts.upper);
        _mm512_storeu_si512(target + part_words(rows), parts.lower);
      }
    }
  }
}

void unpack_tiles(const AttentionRows& rows, float* const* targets, bool divided) {
  for (int64_t lane = 0; lane < rows.lanes; lane += 16) {
    const float* result = results_of(rows, lane / kGroup * kGroup) + lane % kGroup;
    const __m512 factor = unpack_factor(rows, lane, divided);
    for (int64_t i = 0; i < rows.v_stride; i += 16)
      unpack_rows(rows, lane, i, result + i * kGroup, kGroup, targets, factor);
  }
}

// v_bf16 [count][v_stride] to values_bf16 [count / 32][v_stride / 16][16][32].
void lay_values(const AttentionRows& rows, const AttentionKeys& keys) {
  uint16_t* target = rows.values_bf16;
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
      for (int i = 0; i < 16; ++i, target += 32) _mm512_storeu_si512(target, block[i]);
    }
  }
}

// Some keys and a group of rows.
struct GroupStep {
  int64_t lane;        // of the first row
  int64_t key, count;  // within the keys of the call; at most kStep
  bool masked;         // not all rows see all of these keys and of those up to the next multiple of 32
};

// Adds 16 rows of A times 32 lanes (16 if not kBoth) of B to the tiles 0 and 1; A is [16][32] with rows `a_bytes`
// apart. B is [32][lanes] pairs with rows `b_bytes` apart, and its second part. Few tile registers are in use, so that
// more are left for the loads and products in flight: a core has few, and shares them between its hardware threads.
template <bool kBoth>
HWY_INLINE void multiply_tiles(const uint16_t* a, int64_t a_bytes, const uint32_t* b, int64_t b_bytes,
                               int64_t second_part) {
  _tile_loadd(2, a, a_bytes);
#pragma GCC unroll 2
  for (int part = 0; part < 2; ++part, b += second_part) {
    _tile_loadd(3, b, b_bytes);
    _tile_dpbf16ps(0, 2, 3);
    if constexpr (kBoth) {
      _tile_loadd(3, b + 16, b_bytes);
      _tile_dpbf16ps(1, 2, 3);
    }
  }
}

template <bool kBoth>
HWY_INLINE void store_tiles(float* target) {
  _tile_stored(0, target, kGroup * 4);
  if constexpr (kBoth) _tile_stored(1, target + 16, kGroup * 4);
}

// Scores as [kStep][32].
template <bool kBoth>
void tile_scores(const AttentionRows& rows, const AttentionKeys& keys, const GroupStep& step) {
  const uint32_t* q = queries_of(rows, step.lane);
  for (int64_t key = 0; key < step.count; key += 16) {
    const uint16_t* k = keys.k_bf16 + (step.key + key) * rows.k_stride;
    _tile_zero(0);
    _tile_zero(1);
    for (int64_t i = 0; i < rows.k_stride; i += 32)
      multiply_tiles<kBoth>(k + i, rows.k_stride * 2, q + i / 2 * kGroup, kGroup * 4, part_words(rows));
    store_tiles<kBoth>(rows.scores + key * kGroup);
  }
}

// Weights lie where scores were: the first parts of a pair of keys as the even row, the second ones as the odd row.
template <bool kBoth>
void tile_values(const AttentionRows& rows, const GroupStep& step) {
  const auto* weights = reinterpret_cast<const uint32_t*>(rows.scores);
  const uint16_t* values = rows.values_bf16 + step.key * rows.v_stride;
  for (int64_t column = 0; column < rows.v_stride; column += 16) {
    float* result = results_of(rows, step.lane) + column * kGroup;
    _tile_loadd(0, result, kGroup * 4);
    if constexpr (kBoth) _tile_loadd(1, result + 16, kGroup * 4);
    for (int64_t key = 0; key < step.count; key += 32)
      multiply_tiles<kBoth>(values + key * rows.v_stride + column * 32, 64, weights + key * kGroup, 2 * kGroup * 4,
                            kGroup);
    store_tiles<kBoth>(result);
  }
}

// 2^x for x of at most 2 kSlack, to 2^-18; exactly 0 below -125, and where `seen` is not set.
HWY_INLINE __m512 exp2_of(__m512 x, __mmask16 seen) {
  constexpr float kPolynomial[] = {0.9999992614f, 0.6931218147f, 0.2402474483f, 0.05591786032f, 0.009570101908f};
  const __m512 shift = _mm512_set1_ps(kRoundingShift), shifted = _mm512_add_ps(x, shift);
  const __m512 fraction = _mm512_sub_ps(x, _mm512_sub_ps(shifted, shift));
  const __mmask16 large = _mm512_mask_cmp_ps_mask(seen, x, _mm512_set1_ps(-125), _CMP_GE_OQ);
  const __m512 y = polynomial(kFloats, Vector{fraction}, kPolynomial).raw;
  return _mm512_castsi512_ps(
      _mm512_maskz_add_epi32(large, _mm512_castps_si512(y), _mm512_slli_epi32(_mm512_castps_si512(shifted), 23)));
}

// Which of 16 rows see a key: those between the last one that does not and the first one that does not anymore.
struct SeenKeys {
  __m512i newest, too_old;
  template <bool kMasked>
  HWY_INLINE __mmask16 at(int64_t key) const {
    if constexpr (!kMasked) return 0xffff;
    const __m512i k = _mm512_set1_epi32(static_cast<int32_t>(key));
    return _mm512_mask_cmple_epi32_mask(_mm512_cmpgt_epi32_mask(k, too_old), k, newest);
  }
};

SeenKeys seen_keys(const AttentionRows& rows, const AttentionKeys& keys, const GroupStep& step, int64_t lane) {
  const __m512i newest = _mm512_sub_epi32(_mm512_loadu_si512(rows.positions + lane),
                                          _mm512_set1_epi32(keys.first + static_cast<int32_t>(step.key)));
  return {_mm512_min_epi32(newest, _mm512_set1_epi32(static_cast<int32_t>(step.count - 1))),
          _mm512_sub_epi32(newest, _mm512_set1_epi32(rows.window))};
}

// The new maximum of 16 rows, or the old one where it is near enough; adapts sums and results to it.
template <bool kMasked>
HWY_INLINE __m512 reference_of(const AttentionRows& rows, const GroupStep& step, int64_t lane, const SeenKeys& seen) {
  const float* scores = rows.scores + lane - step.lane;
  const __m512 before = _mm512_loadu_ps(rows.greatest + lane);
  __m512 greatest[4] = {before, before, before, before};
  for (int64_t key = 0; key < step.count; key += 4) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
      greatest[j] = _mm512_mask_max_ps(greatest[j], seen.at<kMasked>(key + j), greatest[j],
                                       _mm512_loadu_ps(scores + (key + j) * kGroup));
  }
  const __m512 most = _mm512_max_ps(_mm512_max_ps(greatest[0], greatest[1]), _mm512_max_ps(greatest[2], greatest[3]));
  const __mmask16 risen = _mm512_cmp_ps_mask(most, _mm512_add_ps(before, _mm512_set1_ps(kSlack)), _CMP_GT_OQ);
  if (!risen) return before;
  const __m512 after = _mm512_mask_mov_ps(before, risen, most);
  _mm512_storeu_ps(rows.greatest + lane, after);
  if (!_mm512_mask_cmp_ps_mask(risen, before, _mm512_set1_ps(kHiddenScore), _CMP_NEQ_OQ)) return after;
  const __m512 factor = exp2_of_negative(kFloats, Vector{_mm512_sub_ps(before, after)}).raw;
  _mm512_storeu_ps(rows.sums + lane, _mm512_mul_ps(_mm512_loadu_ps(rows.sums + lane), factor));
  float* result = results_of(rows, step.lane) + lane - step.lane;
  for (int64_t i = 0; i < rows.v_stride; ++i, result += kGroup)
    _mm512_storeu_ps(result, _mm512_mul_ps(_mm512_loadu_ps(result), factor));
  return after;
}

// Turns the scores of 16 rows into weights, and updates their running maxima and sums.
template <bool kMasked>
void soften_scores(const AttentionRows& rows, const GroupStep& step, int64_t lane, const SeenKeys& seen) {
  const __m512 reference = reference_of<kMasked>(rows, step, lane, seen);
  float* scores = rows.scores + lane - step.lane;
  __m512 sum = _mm512_loadu_ps(rows.sums + lane);
  const int64_t count = round_up(step.count, 32);
#pragma GCC unroll 4
  for (int64_t key = 0; key < count; key += 2, scores += 2 * kGroup) {
    const __m512 even = exp2_of(_mm512_sub_ps(_mm512_loadu_ps(scores), reference), seen.at<kMasked>(key));
    const __m512 odd = exp2_of(_mm512_sub_ps(_mm512_loadu_ps(scores + kGroup), reference), seen.at<kMasked>(key + 1));
    sum = _mm512_add_ps(_mm512_add_ps(sum, even), odd);
    const TwoParts parts = split(even, odd);
    _mm512_storeu_si512(scores, parts.upper);
    _mm512_storeu_si512(scores + kGroup, parts.lower);
  }
  _mm512_storeu_ps(rows.sums + lane, sum);
}

void cap_scores(const AttentionRows& rows, const GroupStep& step) {
  for (int64_t i = 0; i < step.count * kGroup; i += kLanes)
    hn::StoreU(capped(hn::LoadU(kFloats, rows.scores + i), rows.soft_cap), kFloats, rows.scores + i);
}

template <bool kBoth>
void attend_step(const AttentionRows& rows, const AttentionKeys& keys, const GroupStep& step) {
  tile_scores<kBoth>(rows, keys, step);
  if (rows.soft_cap > 0) cap_scores(rows, step);
  for (int64_t lane = step.lane; lane < step.lane + (kBoth ? 32 : 16); lane += 16) {
    const SeenKeys seen = seen_keys(rows, keys, step, lane);
    step.masked ? soften_scores<true>(rows, step, lane, seen) : soften_scores<false>(rows, step, lane, seen);
  }
  tile_values<kBoth>(rows, step);
}

void attend_tiles(const AttentionRows& rows, const AttentionKeys& keys) {
  _tile_loadconfig(&kTiles);
  lay_values(rows, keys);
  for (int64_t lane = 0; lane < rows.count; lane += kGroup) {
    const int64_t last_row = lane + kGroup < rows.count ? lane + kGroup - 1 : rows.count - 1;
    const int64_t oldest = rows.positions[lane] - keys.first, newest = rows.positions[last_row] - keys.first;
    const int64_t end = newest < keys.count ? newest + 1 : keys.count;
    const int64_t begin = oldest < rows.window ? 0 : (oldest - rows.window + 1) / kStep * kStep;
    for (int64_t key = begin; key < end; key += kStep) {
      const int64_t count = end - key < kStep ? end - key : kStep;
      const bool masked = count % 32 != 0 || key + count - 1 > oldest || key <= newest - rows.window;
      const GroupStep step{lane, key, count, masked};
      lane + 16 < rows.count ? attend_step<true>(rows, keys, step) : attend_step<false>(rows, keys, step);
    }
  }
  _tile_release();
}

constexpr AttentionFunctions amx_functions() {
  AttentionFunctions functions = kFunctions;
  functions.lanes = kGroup;
  functions.stride_multiple = 32;
  functions.most_wide_rows = kGroupedRows;
  functions.most_wide_keys = kKeysAtOnce;
  functions.wide_takes_bf16 = true;
  functions.reset = reset_tiles;
  functions.attend_wide = attend_tiles;
  functions.pack_wide = pack_queries;
  functions.unpack_wide = unpack_tiles;
  return functions;
}

}  // namespace

constinit const AttentionFunctions kAttentionFunctionsAmx = amx_functions();

}  // namespace ingot
