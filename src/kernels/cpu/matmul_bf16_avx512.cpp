// Matrix multiplication with VDPBF16PS: x is rounded to bf16, products of pairs along k are summed in f32. It pays
// where that instruction runs at full rate; on others it only saves the unpacking of weights.
#ifdef __clang__
#pragma clang optimize off  // clang 16, with which the fuzzers are built, crashes over this file otherwise
#endif
#include <immintrin.h>
#include <stdint.h>

#include "kernels/cpu/matmul_task.h"
#include "kernels/cpu/tiles.h"

#define INGOT_INLINE inline __attribute__((always_inline))

namespace ingot::avx512_bf16 {
namespace {

// Each builds on the one before.
#include "kernels/cpu/matmul_vector_avx512.h"

#include "kernels/cpu/matmul_weights.h"

#include "kernels/cpu/matmul_finish.h"

#include "kernels/cpu/matmul_pairs.h"

// A tile of a k block is [kc / 2][rows of the tile] pairs, kc filled up to a whole pair.
static uint32_t* packed_tile(const MatmulTask& task, int64_t k_begin, int64_t kc, int64_t first_row) {
  return static_cast<uint32_t*>(task.packed) + k_begin / 2 * task.rows + first_row * ((kc + 1) / 2);
}

static void pack_x(const MatmulTask& task, int64_t k_begin, int64_t tile_begin, int64_t tile_end) {
  RowTiles tiles(task.rows, task.tile_rows);
  int64_t kc = block_depth(task, k_begin), pairs = (kc + 1) / 2;
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    int64_t first = tiles.begin(tile), rows = tiles.begin(tile + 1) - first;
    uint32_t* out = packed_tile(task, k_begin, kc, first);
    for (int64_t k = 0; k < kc; k += 32) {
      Reg square[16];
      for (int i = 0; i < 16; ++i)
        square[i] = i < rows ? _mm512_castsi512_ps(round_to_bf16(task.x + (first + i) * task.k + k_begin + k, kc - k))
                             : V::zero();
      V::transpose(square);
      for (int i = 0; i < 16 && k / 2 + i < pairs; ++i)
        V::store_partial(reinterpret_cast<float*>(out + (k / 2 + i) * rows), square[i], rows);
    }
  }
}

struct PairTile {
  const uint32_t* x;
  PairStrip strips[2];
  int64_t pairs;
  float* y;
  int64_t y_stride, columns, prefetch_bytes;
  bool accumulate;
};

template <int MR>
static void multiply_tile(const PairTile& t) {
  Reg acc[MR][2];
#pragma GCC unroll 16
  for (int row = 0; row < MR; ++row) acc[row][0] = acc[row][1] = V::zero();
  const uint32_t* x = t.x;
  const char *w0 = t.strips[0].tiles, *w1 = t.strips[1].tiles;
  for (int64_t pair = 0; pair < t.pairs; ++pair, x += MR, w0 += t.strips[0].stride, w1 += t.strips[1].stride) {
    auto a = reinterpret_cast<__m512bh>(_mm512_loadu_si512(w0)), b = reinterpret_cast<__m512bh>(_mm512_loadu_si512(w1));
    __builtin_prefetch(w0 + t.prefetch_bytes, 0, 2);
    __builtin_prefetch(w1 + t.prefetch_bytes, 0, 2);
#pragma GCC unroll 16
    for (int row = 0; row < MR; ++row) {
      auto both = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(x[row])));
      acc[row][0] = _mm512_dpbf16_ps(acc[row][0], a, both);
      acc[row][1] = _mm512_dpbf16_ps(acc[row][1], b, both);
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < MR; ++row)
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      float* y = t.y + row * t.y_stride + i * 16;
      int64_t left = t.columns - i * 16;
      if (left <= 0) continue;
      store_floats(y, t.accumulate ? V::add(load_floats(y, left), acc[row][i]) : acc[row][i], left);
    }
}

constexpr int kMostRows = 14;
template <int MR = kMostRows>
static void multiply_rows(int64_t rows, const PairTile& t) {
  if (rows == MR) return multiply_tile<MR>(t);
  if constexpr (MR > 1) multiply_rows<MR - 1>(rows, t);
}

static void gemm(const MatmulTask& task, const MatmulRange& range) {
  alignas(64) char panel[kPanelFloats * sizeof(float)];
  RowTiles tiles(task.rows, task.tile_rows);
  for (int64_t k_begin = 0; k_begin < task.k; k_begin += task.k_block)
    for (int64_t column = range.column_begin; column < range.column_end; column += 32) {
      int64_t kc = block_depth(task, k_begin);
      PairTile t{.pairs = (kc + 1) / 2, .y_stride = task.n, .accumulate = k_begin > 0};
      t.columns = range.column_end - column < 32 ? range.column_end - column : 32;
      find_strips(task, column, k_begin, panel, t.strips);
      for (int64_t tile = range.tile_begin; tile < range.tile_end; ++tile) {
        int64_t first = tiles.begin(tile), rows = tiles.begin(tile + 1) - first;
        t.x = packed_tile(task, k_begin, kc, first);
        t.y = task.y + first * task.n + column;
        t.prefetch_bytes = tile == range.tile_begin ? task.prefetch_bytes : 0;
        multiply_rows(rows, t);
        if (k_begin + kc == task.k) finish(task, first, first + rows, column, column + t.columns);
      }
    }
}

static bool accepts_tile(int64_t rows, int64_t columns) { return rows > 0 && rows <= kMostRows && columns == 32; }

}  // namespace

const MatmulCode kMatmulCode = {0, 0, accepts_tile, pack_x, nullptr, gemm};

}  // namespace ingot::avx512_bf16
