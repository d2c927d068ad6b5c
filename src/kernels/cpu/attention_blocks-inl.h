// The loops of attention_blocks.h. Included by one translation unit per instruction set.
#pragma once

#include <hwy/highway.h>

#if HWY_TARGET == HWY_AVX3
#include <immintrin.h>
#endif

#include "kernels/cpu/attention_blocks.h"
#include "kernels/cpu/tiles.h"
#include "kernels/cpu/vector_math-inl.h"

namespace ingot {
namespace {

using Floats = hn::ScalableTag<float>;
using Vector = hn::Vec<Floats>;
constexpr Floats kFloats;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(Floats()));
// Vectors of accumulators that fit the registers: tiles of (rows or keys) x vectors.
constexpr bool kManyRegisters = HWY_TARGET == HWY_AVX3;
constexpr int kNarrowRows = kManyRegisters ? 4 : 2;
constexpr int kWideVectors = kManyRegisters ? 4 : 3;
constexpr int kWideSteps = 4;  // keys, or value columns; k_stride and v_stride need not be multiples of it

void fill(float* target, float value, int64_t count) {
  for (int64_t i = 0; i < count; ++i) target[i] = value;
}

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

void reset(const AttentionRows& rows, bool wide) {
  const int64_t lanes = round_up(rows.count, kLanes);
  fill(rows.greatest, kHiddenScore, lanes);
  fill(rows.sums, 0, lanes);
  fill(rows.result, 0, rows.v_stride * (wide ? rows.lanes : rows.count));
}

// Calls f with std::integral_constant-like tags 1 … kMost for a count known only at run time.
template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};
template <int kMost, class F>
HWY_INLINE void with_count(int64_t count, F f) {
  if constexpr (kMost > 1) {
    if (count < kMost) return with_count<kMost - 1>(count, f);
  }
  f(Constant<kMost>());
}

// The soft cap on scores; with one, the factor log2(e) is applied only here.
HWY_INLINE Vector capped(Vector score, float soft_cap) {
  constexpr float kLog2E = 1.44269504f;
  Vector ratio = hn::Mul(score, hn::Set(kFloats, 1 / soft_cap));
  return hn::Mul(tanh_of(kFloats, ratio), hn::Set(kFloats, soft_cap * kLog2E));
}

// --- narrow: the elements of a head are the lanes ----------------------------------------------------------------

// The sums of four vectors.
HWY_INLINE void store_sums(const Vector (&v)[4], float* target) {
#if HWY_TARGET == HWY_SCALAR
  for (int i = 0; i < 4; ++i) target[i] = hn::GetLane(v[i]);
#else
  // Within blocks of 128 bits: (a0+a2, b0+b2, a1+a3, b1+b3), then (a, b, c, d).
  auto ab = hn::Add(hn::InterleaveLower(kFloats, v[0], v[1]), hn::InterleaveUpper(kFloats, v[0], v[1]));
  auto cd = hn::Add(hn::InterleaveLower(kFloats, v[2], v[3]), hn::InterleaveUpper(kFloats, v[2], v[3]));
  const hn::RepartitionToWide<Floats> pairs;
  auto p = hn::BitCast(pairs, ab), q = hn::BitCast(pairs, cd);
  auto lower = hn::BitCast(kFloats, hn::InterleaveLower(pairs, p, q));
  auto upper = hn::BitCast(kFloats, hn::InterleaveUpper(pairs, p, q));
  auto blocks = hn::Add(lower, upper);
#if HWY_TARGET == HWY_AVX3
  const hn::Half<Floats> half;
  auto eight = hn::Add(hn::LowerHalf(half, blocks), hn::UpperHalf(half, blocks));
#else
  const Floats half;
  auto eight = blocks;
#endif
  const hn::Half<decltype(half)> four;
  hn::StoreU(hn::Add(hn::LowerHalf(four, eight), hn::UpperHalf(four, eight)), four, target);
#endif
}

template <int kRows>
HWY_INLINE void narrow_scores(const AttentionRows& rows, int64_t row, const AttentionKeys& keys) {
  const int64_t stride = rows.k_stride;
  const float* q = rows.q + row * stride;
  for (int64_t key = 0; key < keys.count; key += 4) {
    const float* k = keys.k + key * stride;
    Vector sums[kRows][4];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) sums[r][j] = hn::Zero(kFloats);
    for (int64_t i = 0; i < stride; i += kLanes) {
      Vector k0 = hn::LoadU(kFloats, k + i), k1 = hn::LoadU(kFloats, k + stride + i);
      Vector k2 = hn::LoadU(kFloats, k + 2 * stride + i), k3 = hn::LoadU(kFloats, k + 3 * stride + i);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        Vector query = hn::LoadU(kFloats, q + r * stride + i);
        sums[r][0] = hn::MulAdd(query, k0, sums[r][0]);
        sums[r][1] = hn::MulAdd(query, k1, sums[r][1]);
        sums[r][2] = hn::MulAdd(query, k2, sums[r][2]);
        sums[r][3] = hn::MulAdd(query, k3, sums[r][3]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) store_sums(sums[r], rows.scores + (row + r) * kKeyBlock + key);
  }
}

// Turns the scores of one row into weights and updates its running maximum and sum.
HWY_INLINE void narrow_softmax(const AttentionRows& rows, int64_t row, const AttentionKeys& keys) {
  const hn::RebindToSigned<Floats> ints;
  float* scores = rows.scores + row * kKeyBlock;
  const int32_t newest = rows.positions[row] - keys.first_position;  // within the block
  const int32_t last = newest < keys.count - 1 ? newest : static_cast<int32_t>(keys.count - 1);
  const auto end_of_seen = hn::Set(ints, last + 1), before_seen = hn::Set(ints, newest - rows.window);
  Vector greatest = hn::Set(kFloats, rows.greatest[row]);
  for (int64_t i = 0; i < keys.count; i += kLanes) {
    Vector score = hn::LoadU(kFloats, scores + i);
    if (rows.soft_cap > 0) score = capped(score, rows.soft_cap);
    const auto key = hn::Iota(ints, static_cast<int32_t>(i));
    const auto seen = hn::And(hn::Gt(end_of_seen, key), hn::Gt(key, before_seen));
    score = hn::IfThenElse(hn::RebindMask(kFloats, seen), score, hn::Set(kFloats, kHiddenScore));
    greatest = hn::Max(greatest, score);
    hn::StoreU(score, kFloats, scores + i);
  }
  greatest = hn::MaxOfLanes(kFloats, greatest);
  Vector sum = hn::Zero(kFloats);
  for (int64_t i = 0; i < keys.count; i += kLanes) {
    Vector weight = exp2_of_negative(kFloats, hn::Sub(hn::LoadU(kFloats, scores + i), greatest));
    sum = hn::Add(sum, weight);
    hn::StoreU(weight, kFloats, scores + i);
  }
  Vector factor = exp2_of_negative(kFloats, hn::Sub(hn::Set(kFloats, rows.greatest[row]), greatest));
  rows.greatest[row] = hn::GetLane(greatest);
  rows.factors[row] = hn::GetLane(factor);
  rows.sums[row] = rows.sums[row] * rows.factors[row] + hn::GetLane(hn::SumOfLanes(kFloats, sum));
}

// kColumns vectors of the results of kRows rows.
template <int kRows, int kColumns>
HWY_INLINE void narrow_values(const AttentionRows& rows, int64_t row, const AttentionKeys& keys, int64_t column) {
  const int64_t stride = rows.v_stride;
  float* result = rows.result + row * stride + column;
  const float *v = keys.v + column, *weights = rows.scores + row * kKeyBlock;
  Vector sums[kRows][kColumns];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c)
      sums[r][c] =
          hn::Mul(hn::LoadU(kFloats, result + r * stride + c * kLanes), hn::Set(kFloats, rows.factors[row + r]));
  for (int64_t key = 0; key < keys.count; ++key) {
    Vector value[kColumns];
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) value[c] = hn::LoadU(kFloats, v + key * stride + c * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      Vector weight = hn::Set(kFloats, weights[r * kKeyBlock + key]);
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) sums[r][c] = hn::MulAdd(weight, value[c], sums[r][c]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) hn::StoreU(sums[r][c], kFloats, result + r * stride + c * kLanes);
}

void attend_narrow(const AttentionRows& rows, const AttentionKeys& keys) {
  if (keys.first) reset(rows, false);
  for (int64_t row = 0; row < rows.count; row += kNarrowRows) {
    with_count<kNarrowRows>(rows.count - row, [&](auto count) {
      constexpr int kRows = decltype(count)::value;
      narrow_scores<kRows>(rows, row, keys);
      for (int r = 0; r < kRows; ++r) narrow_softmax(rows, row + r, keys);
      int64_t column = 0;
      for (; column + 4 * kLanes <= rows.v_stride; column += 4 * kLanes)
        narrow_values<kRows, 4>(rows, row, keys, column);
      for (; column < rows.v_stride; column += kLanes) narrow_values<kRows, 1>(rows, row, keys, column);
    });
  }
}

// --- wide: rows are the lanes ------------------------------------------------------------------------------------

// kWideSteps keys of kVectors vectors of rows.
template <int kVectors>
HWY_INLINE void wide_scores(const AttentionRows& rows, int64_t lane, const AttentionKeys& keys) {
  const float* q = rows.q + lane;
  for (int64_t key = 0; key < keys.count; key += kWideSteps) {
    const float* k = keys.k + key * rows.k_stride;
    Vector sums[kWideSteps][kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kWideSteps; ++j)
#pragma GCC unroll 8
      for (int c = 0; c < kVectors; ++c) sums[j][c] = hn::Zero(kFloats);
    for (int64_t i = 0; i < rows.head_size; ++i) {
      Vector query[kVectors];
#pragma GCC unroll 8
      for (int c = 0; c < kVectors; ++c) query[c] = hn::LoadU(kFloats, q + i * rows.lanes + c * kLanes);
#pragma GCC unroll 8
      for (int j = 0; j < kWideSteps; ++j) {
        Vector element = hn::Set(kFloats, k[j * rows.k_stride + i]);
#pragma GCC unroll 8
        for (int c = 0; c < kVectors; ++c) sums[j][c] = hn::MulAdd(element, query[c], sums[j][c]);
      }
    }
#pragma GCC unroll 8
    for (int j = 0; j < kWideSteps; ++j)
#pragma GCC unroll 8
      for (int c = 0; c < kVectors; ++c)
        hn::StoreU(sums[j][c], kFloats, rows.scores + (key + j) * rows.lanes + lane + c * kLanes);
  }
}

// Caps and hides the scores of one vector of rows.
HWY_INLINE void wide_adjust(const AttentionRows& rows, int64_t lane, const AttentionKeys& keys) {
  const hn::RebindToSigned<Floats> ints;
  const auto newest = hn::Sub(hn::LoadU(ints, rows.positions + lane), hn::Set(ints, keys.first_position));
  const auto before_seen = hn::Sub(newest, hn::Set(ints, rows.window));
  const auto end_of_seen = hn::Add(newest, hn::Set(ints, 1));
  for (int64_t key = 0; key < keys.count; ++key) {
    float* place = rows.scores + key * rows.lanes + lane;
    Vector score = hn::LoadU(kFloats, place);
    if (rows.soft_cap > 0) score = capped(score, rows.soft_cap);
    const auto k = hn::Set(ints, static_cast<int32_t>(key));
    const auto seen = hn::And(hn::Gt(end_of_seen, k), hn::Gt(k, before_seen));
    score = hn::IfThenElse(hn::RebindMask(kFloats, seen), score, hn::Set(kFloats, kHiddenScore));
    hn::StoreU(score, kFloats, place);
  }
}

// The greatest of the scores of one vector of rows and of `before`.
HWY_INLINE Vector greatest_score(const AttentionRows& rows, int64_t lane, const AttentionKeys& keys, Vector before) {
  const float* scores = rows.scores + lane;
  const int64_t even_count = keys.count / 2 * 2;
  Vector greatest = before, odd = before;
  for (int64_t key = 0; key < even_count; key += 2) {
    greatest = hn::Max(greatest, hn::LoadU(kFloats, scores + key * rows.lanes));
    odd = hn::Max(odd, hn::LoadU(kFloats, scores + (key + 1) * rows.lanes));
  }
  if (even_count < keys.count) odd = hn::Max(odd, hn::LoadU(kFloats, scores + even_count * rows.lanes));
  return hn::Max(greatest, odd);
}

// What a block of keys does to the running maxima and sums of one vector of rows.
struct WideUpdate {
  Vector before, greatest, sum;
};
HWY_INLINE void update_rows(const AttentionRows& rows, int64_t lane, const WideUpdate& update) {
  const Vector factor = exp2_of_negative(kFloats, hn::Sub(update.before, update.greatest));
  hn::StoreU(update.greatest, kFloats, rows.greatest + lane);
  hn::StoreU(factor, kFloats, rows.factors + lane);
  hn::StoreU(hn::MulAdd(hn::LoadU(kFloats, rows.sums + lane), factor, update.sum), kFloats, rows.sums + lane);
}

// Turns the scores of one vector of rows into weights and updates their running maxima and sums.
HWY_INLINE void wide_softmax(const AttentionRows& rows, int64_t lane, const AttentionKeys& keys) {
  if (!keys.all_seen || rows.soft_cap > 0) wide_adjust(rows, lane, keys);
  const Vector before = hn::LoadU(kFloats, rows.greatest + lane), greatest = greatest_score(rows, lane, keys, before);
  Vector sum = hn::Zero(kFloats);
  for (int64_t key = 0; key < keys.count; ++key) {
    float* place = rows.scores + key * rows.lanes + lane;
    Vector weight = exp2_of_negative(kFloats, hn::Sub(hn::LoadU(kFloats, place), greatest));
    sum = hn::Add(sum, weight);
    hn::StoreU(weight, kFloats, place);
  }
  update_rows(rows, lane, {before, greatest, sum});
}

// kColumns elements of the values, for kVectors vectors of rows.
template <int kVectors, int kColumns>
HWY_INLINE void wide_values(const AttentionRows& rows, int64_t lane, const AttentionKeys& keys, int64_t column) {
  float* result = rows.result + column * rows.lanes + lane;
  const float *weights = rows.scores + lane, *v = keys.v + column;
  Vector sums[kColumns][kVectors];
#pragma GCC unroll 8
  for (int j = 0; j < kColumns; ++j)
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c)
      sums[j][c] = hn::Mul(hn::LoadU(kFloats, result + j * rows.lanes + c * kLanes),
                           hn::LoadU(kFloats, rows.factors + lane + c * kLanes));
  for (int64_t key = 0; key < keys.count; ++key) {
    Vector weight[kVectors];
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c) weight[c] = hn::LoadU(kFloats, weights + key * rows.lanes + c * kLanes);
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; ++j) {
      Vector element = hn::Set(kFloats, v[key * rows.v_stride + j]);
#pragma GCC unroll 8
      for (int c = 0; c < kVectors; ++c) sums[j][c] = hn::MulAdd(element, weight[c], sums[j][c]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < kColumns; ++j)
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c) hn::StoreU(sums[j][c], kFloats, result + j * rows.lanes + c * kLanes);
}

void wide_block(const AttentionRows& rows, const AttentionKeys& keys) {
  for (int64_t lane = 0; lane < rows.lanes; lane += kWideVectors * kLanes) {
    with_count<kWideVectors>((rows.lanes - lane) / kLanes, [&](auto count) {
      constexpr int kVectors = decltype(count)::value;
      wide_scores<kVectors>(rows, lane, keys);
      for (int c = 0; c < kVectors; ++c) wide_softmax(rows, lane + c * kLanes, keys);
      int64_t column = 0;
      for (; column + kWideSteps <= rows.v_stride; column += kWideSteps)
        wide_values<kVectors, kWideSteps>(rows, lane, keys, column);
      for (; column < rows.v_stride; ++column) wide_values<kVectors, 1>(rows, lane, keys, column);
    });
  }
}

#if HWY_TARGET == HWY_AVX3
// Sixteen vectors of sixteen words, transposed.
HWY_INLINE void transpose(__m512i (&v)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    v[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    v[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    v[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// The elements [i, i + 16) of a query row, zeros behind its end.
HWY_INLINE __m512 load_query(const AttentionRows& rows, int64_t row, int64_t i) {
  if (row >= rows.count || i >= rows.head_size) return _mm512_setzero_ps();
  const int64_t left = rows.head_size - i;
  const __mmask16 mask = left >= 16 ? 0xffff : static_cast<__mmask16>((1u << left) - 1);
  return _mm512_maskz_loadu_ps(mask, rows.sources[row] + i);
}

// To q [k_stride][lanes], zero-filled.
void pack_wide(const AttentionRows& rows) {
  for (int64_t lane = 0; lane < rows.lanes; lane += 16) {
    for (int64_t i = 0; i < rows.k_stride; i += 16) {
      __m512i block[16];
#pragma GCC unroll 16
      for (int r = 0; r < 16; ++r)
        block[r] = _mm512_castps_si512(_mm512_mul_ps(load_query(rows, lane + r, i), _mm512_set1_ps(rows.factor)));
      transpose(block);
#pragma GCC unroll 16
      for (int r = 0; r < 16; ++r) _mm512_storeu_si512(rows.q + (i + r) * rows.lanes + lane, block[r]);
    }
  }
}

// To the elements from `i` on of a row; the first 16 of 32 are the first half of a tile's row.
HWY_INLINE void put_results(const AttentionRows& rows, int64_t row, int64_t i, __mmask16 mask, __m512 results) {
  if (!rows.in_tiles) return _mm512_mask_storeu_ps(rows.targets[row] + i, mask, results);
  char* half = reinterpret_cast<char*>(rows.targets[row]) + i / kTileColumns * kTileBytes + i % kTileColumns * 2;
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(half), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(results)));
}

// 16 elements from `i` on of the results of 16 rows from `row` on; `result` [elements][stride] has them as lanes.
HWY_INLINE void unpack_rows(const AttentionRows& rows, int64_t row, int64_t i, const float* result, int64_t stride) {
  const int64_t left = rows.v_size - i;
  if (left <= 0) return;
  const __mmask16 mask = left >= 16 ? 0xffff : static_cast<__mmask16>((1u << left) - 1);
  const __m512 one = _mm512_set1_ps(1);
  const __m512 factor = rows.divided ? _mm512_div_ps(one, _mm512_loadu_ps(rows.sums + row)) : one;
  __m512i block[16];
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r)
    block[r] = _mm512_castps_si512(_mm512_mul_ps(_mm512_loadu_ps(result + r * stride), factor));
  transpose(block);
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r)
    if (row + r < rows.count) put_results(rows, row + r, i, mask, _mm512_castsi512_ps(block[r]));
}

void unpack_wide(const AttentionRows& rows) {
  for (int64_t lane = 0; lane < rows.lanes; lane += 16)
    for (int64_t i = 0; i < rows.v_stride; i += 16)
      unpack_rows(rows, lane, i, rows.result + i * rows.lanes + lane, rows.lanes);
}
#else
void pack_wide(const AttentionRows& rows) {
  for (int64_t row = 0; row < rows.lanes; ++row) {
    float* target = rows.q + row;
    if (row < rows.count) {
      for (int64_t i = 0; i < rows.head_size; ++i) target[i * rows.lanes] = rows.sources[row][i] * rows.factor;
    } else {
      for (int64_t i = 0; i < rows.head_size; ++i) target[i * rows.lanes] = 0;
    }
  }
}

void unpack_wide(const AttentionRows& rows) {
  for (int64_t row = 0; row < rows.count; ++row) {
    const float factor = rows.divided ? 1 / rows.sums[row] : 1;
    for (int64_t i = 0; i < rows.v_size; ++i) rows.targets[row][i] = rows.result[i * rows.lanes + row] * factor;
  }
}
#endif

void attend_wide(const AttentionRows& rows, const AttentionKeys& keys) {
  if (keys.new_queries) pack_wide(rows);
  if (keys.first) reset(rows, true);
  wide_block(rows, keys);
  if (keys.last) unpack_wide(rows);
}

constexpr AttentionFunctions kFunctions = {
    .lanes = kLanes,
    .stride_multiple = kLanes,
    .most_narrow_rows = kLanes / 2,
    .most_wide_rows = kMaxWideRows,
    .most_wide_keys = kKeyBlock,
    .wide_takes_bf16 = false,
    .attend_narrow = attend_narrow,
    .attend_wide = attend_wide,
};

}  // namespace
}  // namespace ingot
