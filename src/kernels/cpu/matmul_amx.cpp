// Matrix multiplication with AMX: x is rounded to bf16 and packed to tiles of 16 rows by 32 k, weights are tiles of 16
// k pairs by 16 features, sums are f32 tiles of 16 rows by 16 features. Two by two tiles of sums use every loaded tile
// twice; for up to 16 rows one by four read four strips of weights as four streams of memory.
//
// Over a block of k the sums stay in tile registers; between blocks they wait in y. The tile registers belong to the
// thread: each range configures them and gives them back.
// g++ 12 warns falsely about the undefined registers inside its own intrinsics.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#include <stdint.h>

#include "kernels/cpu/matmul_task.h"

#define INGOT_INLINE inline __attribute__((always_inline))
// The tile intrinsics of g++ do not tell the compiler which memory they read.
#define INGOT_MEMORY_BARRIER __asm__ volatile("" ::: "memory")

namespace ingot::amx {
namespace {

// Each builds on the one before.
#include "kernels/cpu/matmul_vector_avx512.h"

#include "kernels/cpu/matmul_weights.h"

#include "kernels/cpu/matmul_finish.h"

#include "kernels/cpu/matmul_pairs.h"

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

static void configure_tiles() {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.row_bytes[tile] = 64;
    config.rows[tile] = 16;
  }
  INGOT_MEMORY_BARRIER;
  _tile_loadconfig(&config);
}

// Packed x: the blocks of k follow each other, each with its row tiles of tile_rows (16 or 32, not equalized; the last
// filled up with zeros), each of these as one or two [kc / 32] runs of 1 KiB tiles.
static char* packed_tile(const MatmulTask& task, int64_t k_begin, int64_t tile) {
  int64_t padded = (task.rows + task.tile_rows - 1) / task.tile_rows * task.tile_rows;
  int64_t steps = (block_depth(task, k_begin) + 31) / 32;
  return static_cast<char*>(task.packed) + k_begin / 32 * (padded / 16) * kTileBytes +
         tile * (task.tile_rows / 16) * steps * kTileBytes;
}

static void pack_x(const MatmulTask& task, int64_t k_begin, int64_t tile_begin, int64_t tile_end) {
  int64_t kc = block_depth(task, k_begin);
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    char* out = packed_tile(task, k_begin, tile);
    for (int64_t half = 0; half < task.tile_rows / 16; ++half)
      for (int64_t k = 0; k < kc; k += 32)
        for (int64_t i = 0; i < 16; ++i, out += 64) {
          int64_t row = tile * task.tile_rows + half * 16 + i;
          __m512i values =
              row < task.rows ? round_to_bf16(task.x + row * task.k + k_begin + k, kc - k) : _mm512_setzero_si512();
          _mm512_storeu_si512(out, values);
        }
  }
}

// One tile of sums: y itself when all of it is there, else a copy.
class SumTile {
 public:
  SumTile(float* y, int64_t y_stride, int64_t rows, int64_t columns)
      : y_(y), y_stride_(y_stride), rows_(rows < 16 ? rows : 16), columns_(columns < 16 ? columns : 16) {}

  bool exists() const { return rows_ > 0 && columns_ > 0; }
  bool whole() const { return rows_ == 16 && columns_ == 16; }
  float* place() { return whole() ? y_ : copy_; }
  int64_t stride() const { return whole() ? y_stride_ * 4 : 64; }
  void fetch() {
    if (whole()) return;
    for (int64_t row = 0; row < 16; ++row)
      _mm512_store_ps(copy_ + row * 16,
                      row < rows_ && exists() ? V::load_partial(y_ + row * y_stride_, columns_) : V::zero());
  }
  void put() const {
    if (whole()) return;
    for (int64_t row = 0; row < rows_; ++row)
      V::store_partial(y_ + row * y_stride_, _mm512_load_ps(copy_ + row * 16), columns_);
  }

 private:
  alignas(64) float copy_[256];
  float* y_;
  int64_t y_stride_, rows_, columns_;
};

struct TileProduct {
  const char* x;  // one or two runs of `steps` tiles
  PairStrip strips[4];
  int64_t steps;
  float* y;
  int64_t y_stride, rows, columns, prefetch_bytes;
  bool accumulate;
};

// Tile numbers are part of the instruction, hence macros.
#define INGOT_LOAD_SUM(number, sum)                     \
  if (p.accumulate) {                                   \
    (sum).fetch();                                      \
    INGOT_MEMORY_BARRIER;                               \
    _tile_loadd(number, (sum).place(), (sum).stride()); \
  } else {                                              \
    _tile_zero(number);                                 \
  }
#define INGOT_STORE_SUM(number, sum)                     \
  if ((sum).exists()) {                                  \
    _tile_stored(number, (sum).place(), (sum).stride()); \
    INGOT_MEMORY_BARRIER;                                \
    (sum).put();                                         \
  }

static INGOT_INLINE void prefetch_tile(const PairStrip& strip, int64_t step, int64_t bytes) {
  const char* at = strip.tiles + step * strip.step + bytes;
  for (int row = 0; row < 16; ++row) _mm_prefetch(at + row * strip.stride, _MM_HINT_T1);
}

static void multiply_2x2(const TileProduct& p) {
  SumTile s00(p.y, p.y_stride, p.rows, p.columns), s01(p.y + 16, p.y_stride, p.rows, p.columns - 16);
  SumTile s10(p.y + 16 * p.y_stride, p.y_stride, p.rows - 16, p.columns);
  SumTile s11(p.y + 16 * p.y_stride + 16, p.y_stride, p.rows - 16, p.columns - 16);
  INGOT_LOAD_SUM(0, s00)
  INGOT_LOAD_SUM(1, s01)
  INGOT_LOAD_SUM(2, s10)
  INGOT_LOAD_SUM(3, s11)
  INGOT_MEMORY_BARRIER;
  const char *x0 = p.x, *x1 = p.x + p.steps * kTileBytes;
  const PairStrip &w0 = p.strips[0], &w1 = p.strips[1];
  for (int64_t step = 0; step < p.steps; ++step) {
    if (p.prefetch_bytes) {
      prefetch_tile(w0, step, p.prefetch_bytes);
      prefetch_tile(w1, step, p.prefetch_bytes);
    }
    _tile_loadd(6, w0.tiles + step * w0.step, w0.stride);
    _tile_loadd(4, x0 + step * kTileBytes, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, w1.tiles + step * w1.step, w1.stride);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, x1 + step * kTileBytes, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  INGOT_STORE_SUM(0, s00)
  INGOT_STORE_SUM(1, s01)
  INGOT_STORE_SUM(2, s10)
  INGOT_STORE_SUM(3, s11)
}

static void multiply_1x4(const TileProduct& p) {
  SumTile s0(p.y, p.y_stride, p.rows, p.columns), s1(p.y + 16, p.y_stride, p.rows, p.columns - 16);
  SumTile s2(p.y + 32, p.y_stride, p.rows, p.columns - 32), s3(p.y + 48, p.y_stride, p.rows, p.columns - 48);
  INGOT_LOAD_SUM(0, s0)
  INGOT_LOAD_SUM(1, s1)
  INGOT_LOAD_SUM(2, s2)
  INGOT_LOAD_SUM(3, s3)
  INGOT_MEMORY_BARRIER;
  const PairStrip &w0 = p.strips[0], &w1 = p.strips[1], &w2 = p.strips[2], &w3 = p.strips[3];
  for (int64_t step = 0; step < p.steps; ++step) {
    if (p.prefetch_bytes)
      for (int strip = 0; strip < 4; ++strip) prefetch_tile(p.strips[strip], step, p.prefetch_bytes);
    _tile_loadd(4, p.x + step * kTileBytes, 64);
    _tile_loadd(5, w0.tiles + step * w0.step, w0.stride);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, w1.tiles + step * w1.step, w1.stride);
    _tile_dpbf16ps(1, 4, 6);
    _tile_loadd(7, w2.tiles + step * w2.step, w2.stride);
    _tile_dpbf16ps(2, 4, 7);
    _tile_loadd(5, w3.tiles + step * w3.step, w3.stride);
    _tile_dpbf16ps(3, 4, 5);
  }
  INGOT_STORE_SUM(0, s0)
  INGOT_STORE_SUM(1, s1)
  INGOT_STORE_SUM(2, s2)
  INGOT_STORE_SUM(3, s3)
}

template <int kStrips>
static void multiply_columns(const MatmulTask& task, const MatmulRange& range, int64_t column, int64_t k_begin,
                             char* panel) {
  PairStrip strips[kStrips];
  find_strips(task, column, k_begin, panel, strips);
  int64_t kc = block_depth(task, k_begin), end = range.column_end;
  TileProduct p{.steps = (kc + 31) / 32, .y_stride = task.n, .accumulate = k_begin > 0};
  for (int i = 0; i < kStrips; ++i) p.strips[i] = strips[i];
  p.columns = end - column < task.tile_columns ? end - column : task.tile_columns;
  for (int64_t tile = range.tile_begin; tile < range.tile_end; ++tile) {
    int64_t first = tile * task.tile_rows;
    p.x = packed_tile(task, k_begin, tile);
    p.y = task.y + first * task.n + column;
    p.rows = task.rows - first < task.tile_rows ? task.rows - first : task.tile_rows;
    p.prefetch_bytes = tile == range.tile_begin && task.panel_columns > 0 ? task.prefetch_bytes : 0;
    kStrips == 2 ? multiply_2x2(p) : multiply_1x4(p);
    if (k_begin + kc == task.k) finish(task, first, first + p.rows, column, column + p.columns);
  }
}

static void gemm(const MatmulTask& task, const MatmulRange& range) {
  alignas(64) char panel[kPanelFloats * sizeof(float)];
  configure_tiles();
  for (int64_t k_begin = 0; k_begin < task.k; k_begin += task.k_block)
    for (int64_t column = range.column_begin; column < range.column_end; column += task.tile_columns)
      task.tile_columns == 32 ? multiply_columns<2>(task, range, column, k_begin, panel)
                              : multiply_columns<4>(task, range, column, k_begin, panel);
  _tile_release();
}

static bool accepts_tile(int64_t rows, int64_t columns) {
  return (rows == 32 && columns == 32) || (rows == 16 && columns == 64);
}

}  // namespace

const MatmulCode kMatmulCode = {0, 0, accepts_tile, pack_x, nullptr, gemm};

}  // namespace ingot::amx
