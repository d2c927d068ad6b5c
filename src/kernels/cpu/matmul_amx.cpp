// Matrix multiplication with AMX: x is rounded to bf16 and packed to tiles of 16 rows by 32 k, weights are tiles of 16
// k pairs by 16 features, sums are f32 tiles of 16 rows by 16 features. Two by two tiles of sums use every loaded tile
// twice; for up to 16 rows one by four read four strips of weights as four streams of memory.
//
// Two by two, for many rows, is bound by the L2 cache, which gives a thread about one tile in the time of one product
// while the loop needs one of x and one of weights. So weights of one k block and 32 features stay in the L1 cache
// (32 KiB at k_block 512) while the row tiles of x, at most 256 rows and 2048 of k, pass by from the L2 cache (1 MiB).
// Between k blocks the sums of those rows, for up to 512 features, wait in a buffer of the thread. The weights of the
// next features are prefetched evenly over all of this, so that memory is read at its own pace.
//
// One by four keeps its sums in tile registers over a block of k; between blocks they wait in y. The tile registers
// belong to the thread: each range configures them and gives them back.
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
  const char* x;  // a run of `steps` tiles
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

// The sums of 32 rows by 32 features: four tiles of 16 by 16, one after the other.
constexpr int64_t kSumFloats = 1024;

struct PairProduct {
  const char *x0, *x1;
  PairStrip w0, w1;
  int64_t steps;
  float* sums;
  bool fresh;         // sums begin at zero
  const char* ahead;  // weights to be needed soon, and how many cache lines of them to ask for in each step
  int64_t ahead_lines;
};

static void multiply_2x2(const PairProduct& p) {
  if (p.fresh) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    INGOT_MEMORY_BARRIER;
    _tile_loadd(0, p.sums, 64);
    _tile_loadd(1, p.sums + 256, 64);
    _tile_loadd(2, p.sums + 512, 64);
    _tile_loadd(3, p.sums + 768, 64);
  }
  INGOT_MEMORY_BARRIER;
  const char* ahead = p.ahead;
  for (int64_t step = 0; step < p.steps; ++step) {
    for (int64_t line = 0; line < p.ahead_lines; ++line, ahead += 64) _mm_prefetch(ahead, _MM_HINT_T1);
    _tile_loadd(6, p.w0.tiles + step * p.w0.step, p.w0.stride);
    _tile_loadd(4, p.x0 + step * kTileBytes, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, p.w1.tiles + step * p.w1.step, p.w1.stride);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, p.x1 + step * kTileBytes, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, p.sums, 64);
  _tile_stored(1, p.sums + 256, 64);
  _tile_stored(2, p.sums + 512, 64);
  _tile_stored(3, p.sums + 768, 64);
  INGOT_MEMORY_BARRIER;
}

// Writes the sums of one row tile to y, the parts of it that exist. Whole lines that nothing will be added to go past
// the caches: y is larger than they are, and its rows are often so far apart that they evict each other.
static void put_sums(const MatmulTask& task, const float* sums, int64_t row, int64_t rows, int64_t column,
                     int64_t columns) {
  float* y = task.y + row * task.n + column;
  bool last = !task.bias && !task.residual && task.function == ActivationFunction::kNone;
  bool stream = last && columns == 32 && task.n % 16 == 0 && reinterpret_cast<uintptr_t>(y) % 64 == 0;
  for (int64_t r = 0; r < rows; ++r, y += task.n) {
    const float* line = sums + r / 16 * 512 + r % 16 * 16;
    if (stream) {
      _mm512_stream_ps(y, _mm512_load_ps(line));
      _mm512_stream_ps(y + 16, _mm512_load_ps(line + 256));
    } else {
      for (int64_t c = 0; c < columns; c += 16) store_floats(y + c, _mm512_load_ps(line + c * 16), columns - c);
    }
  }
  finish(task, row, row + rows, column, column + columns);
}

// Which lines of the next features' weights each product asks for.
class Ahead {
 public:
  // The weights of 32 features from `column` on, for `depth` of k from k_begin, spread over `products` products.
  Ahead(const MatmulTask& task, int64_t column, int64_t k_begin, int64_t depth, int64_t products) {
    if (task.panel_columns == 0 || column + 32 > task.n) return;
    int64_t tiles = (depth + 31) / 32;
    first_ = packed_strip(task, column, k_begin).tiles;
    second_ = task.panel_columns == 16 ? packed_strip(task, column + 16, k_begin).tiles : first_ + tiles * kTileBytes;
    half_ = (products + 1) / 2;
    bytes_ = (tiles * kTileBytes / half_ + 63) / 64 * 64;
  }
  void place(int64_t product, PairProduct& p) const {
    p.ahead_lines = first_ ? (bytes_ / 64 + p.steps - 1) / p.steps : 0;
    p.ahead = first_ ? (product < half_ ? first_ + product * bytes_ : second_ + (product - half_) * bytes_) : nullptr;
  }

 private:
  const char *first_ = nullptr, *second_ = nullptr;
  int64_t half_ = 1, bytes_ = 0;
};

// 32 features of the range's rows, for the k blocks in [k_begin, k_end). `sums` holds one block of sums per row tile.
static void multiply_pair_columns(const MatmulTask& task, const MatmulRange& range, int64_t column, int64_t k_begin,
                                  int64_t k_end, char* panel, float* sums) {
  int64_t tiles = range.tile_end - range.tile_begin;
  int64_t blocks = (k_end - k_begin + task.k_block - 1) / task.k_block, product = 0;
  Ahead ahead(task, column + 32, k_begin, k_end - k_begin, blocks * tiles);
  for (int64_t k = k_begin; k < k_end; k += task.k_block) {
    PairStrip strips[2];
    find_strips(task, column, k, panel, strips);
    PairProduct p{.w0 = strips[0], .w1 = strips[1], .steps = (block_depth(task, k) + 31) / 32, .fresh = k == 0};
    for (int64_t i = 0; i < tiles; ++i, ++product) {
      p.x0 = packed_tile(task, k, range.tile_begin + i);
      p.x1 = p.x0 + p.steps * kTileBytes;
      p.sums = sums + i * kSumFloats;
      ahead.place(product, p);
      multiply_2x2(p);
    }
  }
  if (k_end < task.k) return;
  int64_t columns = range.column_end - column < 32 ? range.column_end - column : 32;
  for (int64_t i = 0; i < tiles; ++i) {
    int64_t row = (range.tile_begin + i) * 32, rows = task.rows - row < 32 ? task.rows - row : 32;
    put_sums(task, sums + i * kSumFloats, row, rows, column, columns);
  }
}

// Rows and k in cuts whose packed x stays in the L2 cache, and as many features at a time as there is room for sums.
static void multiply_pairs(const MatmulTask& task, const MatmulRange& range) {
  constexpr int64_t kTiles = 8, kDepth = 2048, kColumns = 512;
  alignas(64) char panel[kPanelFloats * sizeof(float)];
  alignas(64) float sums[kTiles * (kColumns / 32) * kSumFloats];  // 512 KiB of the thread's stack
  int64_t depth = kDepth / task.k_block * task.k_block;
  if (depth == 0) depth = task.k_block;
  for (int64_t tile = range.tile_begin; tile < range.tile_end; tile += kTiles)
    for (int64_t first = range.column_begin; first < range.column_end; first += kColumns) {
      MatmulRange cut{first, first + kColumns < range.column_end ? first + kColumns : range.column_end, tile,
                      tile + kTiles < range.tile_end ? tile + kTiles : range.tile_end};
      for (int64_t k = 0; k < task.k; k += depth)
        for (int64_t column = cut.column_begin; column < cut.column_end; column += 32)
          multiply_pair_columns(task, cut, column, k, k + depth < task.k ? k + depth : task.k, panel,
                                sums + (column - first) / 32 * kTiles * kSumFloats);
    }
  _mm_sfence();
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

static void multiply_columns(const MatmulTask& task, const MatmulRange& range, int64_t column, int64_t k_begin,
                             char* panel) {
  TileProduct p{.steps = (block_depth(task, k_begin) + 31) / 32, .y_stride = task.n, .accumulate = k_begin > 0};
  find_strips(task, column, k_begin, panel, p.strips);
  p.columns = range.column_end - column < 64 ? range.column_end - column : 64;
  for (int64_t tile = range.tile_begin; tile < range.tile_end; ++tile) {
    int64_t first = tile * 16;
    p.x = packed_tile(task, k_begin, tile);
    p.y = task.y + first * task.n + column;
    p.rows = task.rows - first < 16 ? task.rows - first : 16;
    p.prefetch_bytes = tile == range.tile_begin && task.panel_columns > 0 ? task.prefetch_bytes : 0;
    multiply_1x4(p);
    if (k_begin + block_depth(task, k_begin) == task.k) finish(task, first, first + p.rows, column, column + p.columns);
  }
}

static void multiply_quads(const MatmulTask& task, const MatmulRange& range) {
  alignas(64) char panel[kPanelFloats * sizeof(float)];
  for (int64_t k_begin = 0; k_begin < task.k; k_begin += task.k_block)
    for (int64_t column = range.column_begin; column < range.column_end; column += 64)
      multiply_columns(task, range, column, k_begin, panel);
}

static void gemm(const MatmulTask& task, const MatmulRange& range) {
  configure_tiles();
  task.tile_columns == 32 ? multiply_pairs(task, range) : multiply_quads(task, range);
  _tile_release();
}

static bool accepts_tile(int64_t rows, int64_t columns) {
  return (rows == 32 && columns == 32) || (rows == 16 && columns == 64);
}

}  // namespace

const MatmulCode kMatmulCode = {0, 0, accepts_tile, pack_x, nullptr, gemm};

}  // namespace ingot::amx
