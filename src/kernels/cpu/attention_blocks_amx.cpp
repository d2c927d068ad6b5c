// The wide form on AMX tiles; everything else as with AVX-512. A tile product is C[16][16] += A[16][32] B[32][16] in
// bf16 with f32 sums, B holding pairs of its rows interleaved. With rows as lanes both products take the cache as A:
// scores = K q needs keys as they lie, result += V' weights needs the values transposed.
//
// Rows go in groups of 32, two tiles side by side. A group meets kStep keys at a time, so that its queries, scores and
// results stay in the first level while keys and values come from the second, where they are laid out once for all
// groups. While vectors turn the scores of one step into weights, tiles multiply the weights of the step before with
// values and the queries of the next step with keys. q is [group][part][k_stride / 2][32] pairs, result
// [group][v_stride][32].
//
// Queries and weights are split into two bf16 each, which keeps 16 bits of their significands.

// g++ 12 takes the undefined operands inside its own intrinsics for mistakes.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include "kernels/cpu/attention_blocks-inl.h"
#include "kernels/cpu/attention_tiles_amx-inl.h"

static_assert(HWY_TARGET == HWY_AVX3);

namespace ingot {
namespace {

constexpr int64_t kStep = 64;  // keys; their scores fit rows.scores
constexpr int64_t kGroupedRows = 4 * kMaxWideRows, kKeysAtOnce = 512;
// Weights are relative to a maximum that may be this much too small: then results need rescaling only for a row's first
// keys, as a rule. 2^16 times the number of positions is far from overflow.
constexpr float kSlack = 16;
static_assert(2 * kStep * kGroup <= kMaxWideRows * kKeyBlock);

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

// The queries of a group as pairs. Even and odd elements of a row come apart by the transposition.
void pack_group(const AttentionRows& rows, int64_t group) {
  for (int64_t half = 0; half < kGroup; half += 16) {
    uint32_t* q = queries_of(rows, group) + half;
    for (int64_t i = 0; i < rows.k_stride; i += 16) {
      __m512i block[16];
#pragma GCC unroll 16
      for (int r = 0; r < 16; ++r)
        block[r] =
            _mm512_castps_si512(_mm512_mul_ps(load_query(rows, group + half + r, i), _mm512_set1_ps(rows.factor)));
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

void unpack_group(const AttentionRows& rows, int64_t group) {
  for (int64_t half = 0; half < kGroup; half += 16)
    for (int64_t i = 0; i < rows.v_stride; i += 16)
      unpack_rows(rows, group + half, i, results_of(rows, group) + i * kGroup + half, kGroup);
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
  int64_t lane = 0;                      // of the first row
  int64_t key = 0, count = 0;            // within the keys of the call; at most kStep
  bool both = true;                      // the group has more than 16 rows
  bool adds = true;                      // there are results of earlier steps
  bool last = false;                     // of the group in this call
  int64_t seen_begin = 0, seen_end = 0;  // the keys that all rows see
  float* scores = nullptr;  // [kStep][32]. Weights lie where they were: the first parts of a pair of keys as the even
                            // row, the second ones as the odd row.

  // All rows see `keys` keys from `first` on.
  bool all_seen(int64_t first, int64_t keys) const { return first >= seen_begin && first + keys <= seen_end; }
  uint32_t* weights() const { return reinterpret_cast<uint32_t*>(scores); }
};

TileProduct scores_product(const AttentionRows& rows, const AttentionKeys& keys, const GroupStep& step) {
  return {.a = keys.k_bf16 + step.key * rows.k_stride,
          .b = queries_of(rows, step.lane),
          .target = step.scores,
          .a_row = rows.k_stride,
          .a_depth = 32,
          .a_target = 16 * rows.k_stride,
          .b_row = kGroup,
          .b_depth = 16 * kGroup,
          .b_part = part_words(rows),
          .depths = rows.k_stride / 32,
          .targets = round_up(step.count, 16) / 16,
          .both = step.both,
          .adds = false};
}

TileProduct values_product(const AttentionRows& rows, const GroupStep& step) {
  return {.a = rows.values_bf16 + step.key * rows.v_stride,
          .b = step.weights(),
          .target = results_of(rows, step.lane),
          .a_row = 32,
          .a_depth = 32 * rows.v_stride,
          .a_target = 16 * 32,
          .b_row = 2 * kGroup,
          .b_depth = 32 * kGroup,
          .b_part = kGroup,
          .depths = round_up(step.count, 32) / 32,
          .targets = rows.v_stride / 16,
          .both = step.both,
          .adds = step.adds};
}

// Brings rows of floats to the second level, a line at a time. (In the first they would drive out what tiles load.)
class LineWalk {
 public:
  void start(const float* const* rows, int64_t count, int64_t size) {
    row_ = rows;
    end_ = count > 0 ? rows + count : rows;
    size_ = size;
    i_ = 0;
  }
  HWY_INLINE void next() {
    if (row_ == end_) return;
    __builtin_prefetch(*row_ + i_, 0, 2);
    i_ += 16;
    if (i_ < size_) return;
    i_ = 0;
    ++row_;
  }

 private:
  const float* const* row_ = nullptr;
  const float* const* end_ = nullptr;
  int64_t size_ = 0, i_ = 0;
};

// What goes on while scores become weights: the values of the step before, then the scores of the next one, and the
// queries of the next group.
struct PendingWork {
  TileWork values, scores;
  LineWalk& lines;

  int64_t left() const { return values.left() + scores.left(); }
  HWY_INLINE void next() {
    if (left() > 0) (values.left() > 0 ? values : scores).next();
  }
  void finish() {
    values.finish();
    scores.finish();
  }
};

// 2^x for x of at most kSlack, to 2^-18; exactly 0 below -125, and where `seen` is not set.
HWY_INLINE __m512 exp2_of(__m512 x, __mmask16 seen) {
  constexpr float kPolynomial[] = {0.9999992614f, 0.6931218147f, 0.2402474483f, 0.05591786032f, 0.009570101908f};
  const __m512 shift = _mm512_set1_ps(kRoundingShift), shifted = _mm512_add_ps(x, shift);
  const __m512 fraction = _mm512_sub_ps(x, _mm512_sub_ps(shifted, shift));
  const __mmask16 large = _mm512_mask_cmp_ps_mask(seen, x, _mm512_set1_ps(-125), _CMP_NLT_UQ);
  const __m512 y = polynomial(kFloats, Vector{fraction}, kPolynomial).raw;
  return _mm512_castsi512_ps(
      _mm512_maskz_add_epi32(large, _mm512_castps_si512(y), _mm512_slli_epi32(_mm512_castps_si512(shifted), 23)));
}

constexpr int64_t kKeys = 4;  // that vectors take at a time

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

SeenKeys seen_keys(const AttentionRows& rows, const AttentionKeys& keys, const GroupStep& step, int64_t half) {
  const __m512i newest = _mm512_sub_epi32(_mm512_loadu_si512(rows.positions + step.lane + half),
                                          _mm512_set1_epi32(keys.first_position + static_cast<int32_t>(step.key)));
  return {_mm512_min_epi32(newest, _mm512_set1_epi32(static_cast<int32_t>(step.count - 1))),
          _mm512_sub_epi32(newest, _mm512_set1_epi32(rows.window))};
}

template <bool kMasked>
HWY_INLINE void raise(__m512 (&greatest)[kKeys], const float* scores, int64_t key, const SeenKeys& seen) {
#pragma GCC unroll 4
  for (int j = 0; j < kKeys; ++j)
    greatest[j] = _mm512_mask_max_ps(greatest[j], seen.at<kMasked>(key + j), greatest[j],
                                     _mm512_loadu_ps(scores + (key + j) * kGroup));
}

// The greatest scores of 16 rows, at least `before`.
HWY_INLINE __m512 greatest_of(const GroupStep& step, int64_t half, const SeenKeys& seen, __m512 before) {
  __m512 greatest[kKeys] = {before, before, before, before};
  for (int64_t key = 0; key < step.count; key += kKeys)
    step.all_seen(key, kKeys) ? raise<false>(greatest, step.scores + half, key, seen)
                              : raise<true>(greatest, step.scores + half, key, seen);
  return _mm512_max_ps(_mm512_max_ps(greatest[0], greatest[1]), _mm512_max_ps(greatest[2], greatest[3]));
}

// The maximum that the weights of 16 rows refer to: the old one where it is near enough, else the new one, to which
// sums and results are adapted.
HWY_INLINE __m512 reference_of(const AttentionRows& rows, const GroupStep& step, int64_t half, __m512 greatest,
                               TileWork& values) {
  const int64_t lane = step.lane + half;
  const __m512 before = _mm512_loadu_ps(rows.greatest + lane);
  const __mmask16 risen = _mm512_cmp_ps_mask(greatest, _mm512_add_ps(before, _mm512_set1_ps(kSlack)), _CMP_GT_OQ);
  if (!risen) return before;
  const __m512 after = _mm512_mask_mov_ps(before, risen, greatest);
  _mm512_storeu_ps(rows.greatest + lane, after);
  if (!_mm512_mask_cmp_ps_mask(risen, before, _mm512_set1_ps(kHiddenScore), _CMP_NEQ_OQ)) return after;  // first scores
  values.finish();
  const __m512 factor = exp2_of_negative(kFloats, Vector{_mm512_sub_ps(before, after)}).raw;
  _mm512_storeu_ps(rows.sums + lane, _mm512_mul_ps(_mm512_loadu_ps(rows.sums + lane), factor));
  float* result = results_of(rows, step.lane) + half;
  for (int64_t i = 0; i < rows.v_stride; ++i, result += kGroup)
    _mm512_storeu_ps(result, _mm512_mul_ps(_mm512_loadu_ps(result), factor));
  return after;
}

// What scores of 16 rows become weights with.
struct Softening {
  SeenKeys seen;
  __m512 reference, sum;

  // The scores of two keys.
  template <bool kMasked>
  HWY_INLINE void take_pair(float* scores, int64_t key) {
    const __m512 even = exp2_of(_mm512_sub_ps(_mm512_loadu_ps(scores), reference), seen.at<kMasked>(key));
    const __m512 odd = exp2_of(_mm512_sub_ps(_mm512_loadu_ps(scores + kGroup), reference), seen.at<kMasked>(key + 1));
    sum = _mm512_add_ps(_mm512_add_ps(sum, even), odd);
    const TwoParts parts = split(even, odd);
    _mm512_storeu_si512(scores, parts.upper);
    _mm512_storeu_si512(scores + kGroup, parts.lower);
  }
};

// kKeys keys, with a unit of work among them: tiles that are asked for faster than they are multiplied hold up
// everything behind them.
template <bool kMasked, int kHalves>
HWY_INLINE void take_keys(const GroupStep& step, int64_t key, Softening (&halves)[kHalves], PendingWork& work) {
  static_assert(kKeys == 4);
  float *first = step.scores + key * kGroup, *second = first + 2 * kGroup;
  TileWork& tiles = work.values.left() > 0 ? work.values : work.scores;
  const bool busy = tiles.left() > 0;
  if (busy) tiles.quarter<0>();
  halves[0].template take_pair<kMasked>(first, key);
  if (busy) tiles.quarter<1>();
  if constexpr (kHalves == 2) halves[1].template take_pair<kMasked>(first + 16, key);
  if (busy) tiles.quarter<2>();
  halves[0].template take_pair<kMasked>(second, key + 2);
  if (busy) tiles.quarter<3>();
  if constexpr (kHalves == 2) halves[1].template take_pair<kMasked>(second + 16, key + 2);
}

// Turns the scores of a step into weights, with zeros up to the next multiple of 32 keys, updates the running maxima
// and sums of its rows, and does the pending work.
template <int kHalves>
void soften_scores(const AttentionRows& rows, const AttentionKeys& keys, const GroupStep& step, PendingWork& work) {
  Softening halves[kHalves];
  for (int h = 0; h < kHalves; ++h) {
    const SeenKeys seen = seen_keys(rows, keys, step, 16 * h);
    const __m512 before = _mm512_loadu_ps(rows.greatest + step.lane + 16 * h);
    const __m512 greatest = greatest_of(step, 16 * h, seen, before);
    const __m512 reference = reference_of(rows, step, 16 * h, greatest, work.values);
    halves[h] = {seen, reference, _mm512_loadu_ps(rows.sums + step.lane + 16 * h)};
  }
  constexpr int kLines = 2;  // for each kKeys
  const int64_t count = round_up(step.count, kKeys), units = (work.left() * kKeys + count - 1) / count;
  for (int64_t key = 0; key < count; key += kKeys) {
    for (int64_t i = 1; i < units; ++i) work.next();
#pragma GCC unroll 2
    for (int i = 0; i < kLines; ++i) work.lines.next();
    step.all_seen(key, kKeys) ? take_keys<false>(step, key, halves, work) : take_keys<true>(step, key, halves, work);
  }
  fill(step.scores + count * kGroup, 0, (round_up(count, 32) - count) * kGroup);
  work.finish();
  for (int h = 0; h < kHalves; ++h) _mm512_storeu_ps(rows.sums + step.lane + 16 * h, halves[h].sum);
}

// Whether rows of the group have results. Those of the others are zeros then.
bool any_seen(const AttentionRows& rows, const GroupStep& step) {
  const __m512 hidden = _mm512_set1_ps(kHiddenScore);
  const __m512 lower = _mm512_loadu_ps(rows.greatest + step.lane),
               upper = _mm512_loadu_ps(rows.greatest + step.lane + 16);
  return (_mm512_cmp_ps_mask(lower, hidden, _CMP_NEQ_OQ) | _mm512_cmp_ps_mask(upper, hidden, _CMP_NEQ_OQ)) != 0;
}

void cap_scores(const AttentionRows& rows, const GroupStep& step) {
  for (int64_t i = 0; i < step.count * kGroup; i += kLanes)
    hn::StoreU(capped(hn::LoadU(kFloats, step.scores + i), rows.soft_cap), kFloats, step.scores + i);
}

void soften(const AttentionRows& rows, const AttentionKeys& keys, const GroupStep& step, PendingWork work) {
  if (rows.soft_cap > 0) cap_scores(rows, step);
  step.both ? soften_scores<2>(rows, keys, step, work) : soften_scores<1>(rows, keys, step, work);
}

// The steps of all groups, one after the other. On the way, queries are packed and the next ones prefetched.
class StepWalk {
 public:
  StepWalk(const AttentionRows& rows, const AttentionKeys& keys, LineWalk& lines)
      : rows_(rows), keys_(keys), lines_(lines) {
    enter_group();
  }

  // The next step; none left when its count is 0.
  GroupStep next() {
    while (key_ >= end_ && lane_ + kGroup < rows_.count) {
      lane_ += kGroup;
      enter_group();
    }
    if (key_ >= end_) return {};
    const int64_t key = key_, count = end_ - key < kStep ? end_ - key : kStep;
    key_ += kStep;
    buffer_ ^= 1;
    return {.lane = lane_,
            .key = key,
            .count = count,
            .both = lane_ + 16 < rows_.count,
            .last = key_ >= end_,
            .seen_begin = newest_ - rows_.window + 1 - key,
            .seen_end = oldest_ + 1 - key < count ? oldest_ + 1 - key : count,
            .scores = rows_.scores + buffer_ * kStep * kGroup};
  }

 private:
  void enter_group() {
    const int64_t last_row = lane_ + kGroup < rows_.count ? lane_ + kGroup - 1 : rows_.count - 1;
    oldest_ = rows_.positions[lane_] - keys_.first_position;
    newest_ = rows_.positions[last_row] - keys_.first_position;
    end_ = newest_ < keys_.count ? newest_ + 1 : keys_.count;
    key_ = oldest_ < rows_.window ? 0 : (oldest_ - rows_.window + 1) / kStep * kStep;
    const int64_t after = lane_ + kGroup, known = rows_.count + rows_.following;
    if (keys_.new_queries) {
      pack_group(rows_, lane_);
      lines_.start(rows_.sources + after, after + kGroup < known ? kGroup : known - after, rows_.head_size);
    }
    if (keys_.last && key_ >= end_) unpack_group(rows_, lane_);
  }

  const AttentionRows& rows_;
  const AttentionKeys& keys_;
  LineWalk& lines_;
  int64_t lane_ = 0, key_ = 0, end_ = 0;
  int64_t oldest_ = 0, newest_ = 0;  // positions of the rows of the group, counted like key_
  int64_t buffer_ = 0;
};

void attend_tiles(const AttentionRows& rows, const AttentionKeys& keys) {
  if (!keys.laid_out) lay_values(rows, keys);
  if (keys.first) {
    fill(rows.greatest, kHiddenScore, rows.lanes);
    fill(rows.sums, 0, rows.lanes);
  }
  _tile_loadconfig(&kTiles);
  LineWalk lines;
  StepWalk walk(rows, keys, lines);
  GroupStep before, step = walk.next();
  TileWork(scores_product(rows, keys, step)).finish();
  while (step.count > 0) {
    const GroupStep next = walk.next();
    step.adds = any_seen(rows, step);
    soften(rows, keys, step,
           {TileWork(values_product(rows, before)), TileWork(scores_product(rows, keys, next)), lines});
    if (before.last && keys.last) unpack_group(rows, before.lane);
    before = step;
    step = next;
  }
  TileWork(values_product(rows, before)).finish();
  if (before.last && keys.last) unpack_group(rows, before.lane);
  _tile_release();
}

constexpr AttentionFunctions amx_functions() {
  AttentionFunctions functions = kFunctions;
  functions.lanes = kGroup;
  functions.stride_multiple = 32;
  functions.most_wide_rows = kGroupedRows;
  functions.most_wide_keys = kKeysAtOnce;
  functions.wide_takes_bf16 = true;
  functions.attend_wide = attend_tiles;
  return functions;
}

}  // namespace

constinit const AttentionFunctions kAttentionFunctionsAmx = amx_functions();

}  // namespace ingot
