// Matrix multiplication with AMX: x is rounded to bf16 and packed to tiles of 16 rows by 32 k, weights are tiles of 16
// k pairs by 16 features, sums are f32 tiles of 16 rows by 16 features.
//
// Many rows: one by two tiles of sums, a tile of x and one of weights, so that few tile registers are in use.
// Loads and products in flight need registers as well, of which a core has few, and fewer still while its other
// hardware thread works. There this form is up to twice as fast as two by two sums with two tiles of each operand.
//
// They are bound by the caches. Weights of 32 features and k_block of k stay in the L1 cache (32 KiB at 512), while the
// row tiles, at most 256 rows and 2048 of k, pass by from the L2 cache (1 MiB): their loads say that they are not worth
// keeping, so that the weights stay. Deeper products may take 512 rows at a time, so that the weights are read once,
// and as many features of each block of k as there is room for sums (512 KiB), so that x is seldom read anew and the x
// of the next block, asked for meanwhile, finds room as well. The weights of the next block of k are asked for before
// they are needed, and, from memory and evenly over the whole time, those of the next features. Between blocks of k the
// sums wait in a buffer of the thread; to store and load a tile of them costs about as much as one and a half products.
//
// A gated product takes a strip of the gate and one of up side by side and writes half as much, to a product that
// rounds it anyway in the tiles that this one reads.
//
// Up to 16 rows: one by four reads four strips of weights as four streams of memory. It keeps its sums in tile
// registers over a block of k; between blocks they wait in y.
//
// The tile registers belong to the thread: each range configures them and gives them back.
// g++ 12 warns falsely about the undefined registers inside its own intrinsics.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#include <stdint.h>

#include "kernels/cpu/matmul_task.h"
#include "kernels/cpu/tiles.h"

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

// Packed x is in tiles, in blocks of k_block columns; the last row tile is filled up with zeros.
static char* packed_tile(const MatmulTask& task, int64_t k_begin, int64_t tile) {
  return tile_at(task.packed, task.rows, k_begin, block_depth(task, k_begin), tile);
}

static void pack_x(const MatmulTask& task, int64_t k_begin, int64_t tile_begin, int64_t tile_end) {
  int64_t kc = block_depth(task, k_begin);
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    char* out = packed_tile(task, k_begin, tile);
    for (int64_t k = 0; k < kc; k += 32)
      for (int64_t row = tile * 16; row < tile * 16 + 16; ++row, out += 64) {
        const float* x = task.x + row * task.k + k_begin + k;
        _mm512_storeu_si512(out, row < task.rows ? round_to_bf16(x, kc - k) : _mm512_setzero_si512());
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

// The sums of a row tile and two strips: one tile after the other.
constexpr int64_t kTileFloats = 256, kSumFloats = 2 * kTileFloats;

// Lines of two strips, to be asked for: so many of each in every step of a product, or one of each in turn.
struct Wanted {
  const char* strips[2] = {};
  int64_t stride = 0, lines = 0;
  bool in_turn = false;
};

template <auto kHint>
static INGOT_INLINE void ask_for(const char*& at, int64_t stride, int64_t lines) {
  for (int64_t line = 0; line < lines; ++line, at += stride) _mm_prefetch(at, kHint);
}
static INGOT_INLINE void swap(const char*& a, const char*& b) {
  const char* c = a;
  a = b;
  b = c;
}

#include "kernels/cpu/matmul_gate_avx512.h"

#include "kernels/cpu/matmul_rows_amx.h"

// Lines that follow each other and have not been asked for.
struct Lines {
  const char *at = nullptr, *end = nullptr;
};

struct PanelProduct {
  const char* x;  // a run of `steps` tiles
  PairStrip w[2];
  int64_t steps;
  float* sums;
  bool fresh;         // sums begin at zero
  Wanted soon, late;  // weights, for the L1 and the L2 cache; late ones move on
  Lines& next_x;      // of the next cut, for the L2 cache
};

// For late weights; kInTurn asks for two lines of the next x as well, kAnyLines for what is wanted soon.
enum class Asking { kOneLine, kInTurn, kAnyLines };

// A row tile by two strips whose rows are kStride bytes apart. Meanwhile a waiting row is written in every step: what
// has just been stored from a tile register can only be loaded a while later, and a core that multiplies has time for
// vectors. A function of its own keeps all that the loop needs in registers.
template <int kStride, Putting kPutting, Asking kAsking>
static __attribute__((noinline)) void multiply_tile(PanelProduct& p, WaitingRows& waiting) {
  WaitingRows::Next row = waiting.next();
  if (p.fresh) {
    _tile_zero(0);
    _tile_zero(1);
  } else {
    INGOT_MEMORY_BARRIER;
    _tile_loadd(0, p.sums, 64);
    _tile_loadd(1, p.sums + kTileFloats, 64);
  }
  INGOT_MEMORY_BARRIER;
  const char *x = p.x, *w0 = p.w[0].tiles, *w1 = p.w[1].tiles, *end = x + p.steps * kTileBytes;
  const char *late0 = p.late.strips[0], *late1 = p.late.strips[1], *soon0 = p.soon.strips[0], *soon1 = p.soon.strips[1];
  constexpr bool kAny = kAsking == Asking::kAnyLines;
  const int64_t soon_lines = kAny ? p.soon.lines : 0, late_lines = kAny ? p.late.lines : 1;
  const bool in_turn = kAny ? p.late.in_turn : kAsking == Asking::kInTurn;
  const char* next_x = p.next_x.at;
  for (; x < end; x += kTileBytes, w0 += 16 * kStride, w1 += 16 * kStride) {
    _tile_stream_loadd(4, x, 64);
    _tile_loadd(5, w0, kStride);
    _tile_dpbf16ps(0, 4, 5);
    ask_for<_MM_HINT_T0>(soon0, kStride, soon_lines);
    ask_for<_MM_HINT_T1>(late0, kStride, late_lines);
    _tile_loadd(5, w1, kStride);
    _tile_dpbf16ps(1, 4, 5);
    ask_for<_MM_HINT_T0>(soon1, kStride, soon_lines);
    if constexpr (kAsking == Asking::kInTurn) ask_for<_MM_HINT_T1>(next_x, 64, 2);
    if (in_turn)
      swap(late0, late1);
    else
      ask_for<_MM_HINT_T1>(late1, kStride, late_lines);
    if constexpr (kPutting != Putting::kNothing) {
      INGOT_MEMORY_BARRIER;
      if (row.count > 0) waiting.put_one<kPutting>(row);
    }
  }
  waiting.go_on_at(row);
  p.late.strips[0] = late0;
  p.late.strips[1] = late1;
  p.next_x.at = next_x;
  _tile_stored(0, p.sums, 64);
  _tile_stored(1, p.sums + kTileFloats, 64);
  INGOT_MEMORY_BARRIER;
}

template <int kStride, Asking kAsking>
static void multiply_tile(PanelProduct& p, WaitingRows& waiting) {
  switch (waiting.putting()) {
    case Putting::kNothing:
      return multiply_tile<kStride, Putting::kNothing, kAsking>(p, waiting);
    case Putting::kGates:
      return multiply_tile<kStride, Putting::kGates, kAsking>(p, waiting);
    case Putting::kLines:
      return multiply_tile<kStride, Putting::kLines, kAsking>(p, waiting);
    case Putting::kAny:
      return multiply_tile<kStride, Putting::kAny, kAsking>(p, waiting);
  }
}

template <int kStride>
static void multiply_tile(PanelProduct& p, WaitingRows& waiting) {
  const bool asks_for_x = p.late.in_turn && p.next_x.at < p.next_x.end;
  if (p.soon.lines > 0 || p.late.lines != 1 || p.late.in_turn != asks_for_x)
    multiply_tile<kStride, Asking::kAnyLines>(p, waiting);
  else if (asks_for_x)
    multiply_tile<kStride, Asking::kInTurn>(p, waiting);
  else
    multiply_tile<kStride, Asking::kOneLine>(p, waiting);
}

// Where products are made: the columns of y from `column` on, with the weights from `k` on.
struct Place {
  int64_t column, k;
};

// The part of a range whose packed x stays in the L2 cache.
struct PanelCut {
  int64_t column_end, tile_begin, tile_end, k_end;
  Place next;  // where the thread goes on afterwards
  char* panel;
  WaitingRows& waiting;
  Lines& next_x;
};

class Panels {
 public:
  // Rows and k in cuts whose packed x stays in the L2 cache, and as many features at a time as there is room for sums.
  static void multiply(const MatmulTask& task, const MatmulRange& range) {
    WaitingRows waiting;
    alignas(64) char panel[kPanelFloats * sizeof(float)];
    alignas(64) float sums[kSumTiles * kSumFloats];  // 512 KiB of the thread's stack
    const int64_t tiles = task.cut_rows / 16, depth = cut_depth(task), width = columns_of(task);
    const int64_t group = kSumTiles / tiles * width;
    for (int64_t tile = range.tile_begin; tile < range.tile_end; tile += tiles) {
      int64_t tile_end = tile + tiles < range.tile_end ? tile + tiles : range.tile_end;
      for (int64_t first = range.column_begin; first < range.column_end; first += group) {
        int64_t end = first + group < range.column_end ? first + group : range.column_end;
        for (int64_t k = 0; k < task.k; k += depth) {
          Lines next_x =
              depth < task.k ? packed_cut(task, k + depth < task.k ? k + depth : 0, tile, tile_end) : Lines{};
          PanelCut cut{end, tile, tile_end, k + depth < task.k ? k + depth : task.k, {end, 0}, panel, waiting, next_x};
          if (cut.k_end < task.k)
            cut.next = {first, cut.k_end};
          else if (end == range.column_end)
            cut.next.column = tile_end < range.tile_end ? range.column_begin : range.next_column;
          for (int64_t column = first; column < end; column += width)
            multiply_features(task, cut, {column, k}, column + width < end ? Place{column + width, k} : cut.next,
                              depth < task.k ? sums + (column - first) / width * tiles * kSumFloats : sums);
        }
      }
    }
    waiting.put_all();
    _mm_sfence();
  }

 private:
  static constexpr int64_t kSumTiles = 256;  // pairs of tiles: 8 times 512 rows

  // So much of k that packed x takes 1 MiB, or 512 KiB beside sums of many features.
  static int64_t cut_depth(const MatmulTask& task) {
    int64_t whole = (512 << 10) / task.cut_rows;
    if (task.k <= whole) return task.k;
    int64_t depth = whole / 2 / task.k_block * task.k_block;
    return depth > 0 ? depth : task.k_block;
  }

  // The packed x of a cut that begins at k and has all rows, as those have that pass by in several.
  static Lines packed_cut(const MatmulTask& task, int64_t k, int64_t tile_begin, int64_t tile_end) {
    int64_t depth = cut_depth(task), left = task.k - k;
    const char* begin = packed_tile(task, k, tile_begin);
    return {begin, begin + (tile_end - tile_begin) * (((left < depth ? left : depth) + 31) / 32) * kTileBytes};
  }

  // Columns of y behind two strips.
  static int64_t columns_of(const MatmulTask& task) { return task.gated ? kStripColumns : 2 * kStripColumns; }

  static void find_pair(const MatmulTask& task, Place place, char* panel, PairStrip (&strips)[2]) {
    if (!task.gated) return find_strips(task, place.column, place.k, panel, strips);
    PairStrip gate[1], up[1];
    find_strips(task, place.column, place.k, panel, gate);
    find_strips(task, task.n / 2 + place.column, place.k, panel + kPanelFloats * sizeof(float) / 2, up);
    strips[0] = gate[0];
    strips[1] = up[0];
  }

  // The packed weights of a place, `tiles` deep, spread over `steps` steps. None where there are no features, nor of
  // row-major weights, which are unpacked when they are needed.
  static Wanted wanted(const MatmulTask& task, Place place, int64_t tiles, int64_t steps) {
    if (task.panel_columns == 0 || place.column < 0 || place.column >= task.columns()) return {};
    PairStrip strips[2];
    find_pair(task, place, nullptr, strips);
    const int64_t lines = tiles * 16;
    return {{strips[0].tiles, strips[1].tiles}, strips[0].stride, (lines + steps - 1) / steps, 2 * lines <= steps};
  }

  // The features of a place, for all blocks of k of a cut.
  static void multiply_features(const MatmulTask& task, const PanelCut& cut, Place here, Place next, float* sums) {
    int64_t depth = cut.k_end - here.k, next_depth = next.k + depth < task.k ? depth : task.k - next.k;
    Wanted late = wanted(task, next, (next_depth + 31) / 32, (depth + 31) / 32 * (cut.tile_end - cut.tile_begin));
    for (int64_t k = here.k; k < cut.k_end; k += task.k_block) {
      Place after = k + task.k_block < cut.k_end ? Place{here.column, k + task.k_block} : next;
      multiply_panel(task, cut, {here.column, k}, after, late, sums);
    }
  }

  // One block of k for all row tiles of a cut; `late` moves on. Rows of y may wait for the next block.
  static void multiply_panel(const MatmulTask& task, const PanelCut& cut, Place here, Place next, Wanted& late,
                             float* sums) {
    int64_t tiles = cut.tile_end - cut.tile_begin, depth = block_depth(task, here.k), width = columns_of(task);
    int64_t columns = cut.column_end - here.column < width ? cut.column_end - here.column : width;
    bool last = here.k + depth == task.k;
    PanelProduct p{.steps = (depth + 31) / 32, .fresh = here.k == 0, .late = late, .next_x = cut.next_x};
    find_pair(task, here, cut.panel, p.w);
    for (int64_t i = 0; i < tiles; ++i) {
      p.x = packed_tile(task, here.k, cut.tile_begin + i);
      p.sums = sums + i * kSumFloats;
      if (i + 1 == tiles) p.soon = wanted(task, next, (block_depth(task, next.k) + 31) / 32, p.steps);
      if (p.w[0].stride == 64)
        multiply_tile<64>(p, cut.waiting);
      else
        multiply_tile<128>(p, cut.waiting);
      // Later row tiles store their sums where waiting rows are.
      if (last || i == 0) cut.waiting.put_all();
      if (!last) continue;
      cut.waiting = WaitingRows(task, p.sums, (cut.tile_begin + i) * 16, here.column, columns);
    }
    if (tiles == 1) cut.waiting.put_all();
    late = p.late;
  }
};

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
    _tile_loadd(5, w1.tiles + step * w1.step, w1.stride);
    _tile_dpbf16ps(1, 4, 5);
    _tile_loadd(5, w2.tiles + step * w2.step, w2.stride);
    _tile_dpbf16ps(2, 4, 5);
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
  if (task.tile_columns == 32)
    Panels::multiply(task, range);
  else
    multiply_quads(task, range);
  _tile_release();
}

static bool accepts_tile(int64_t rows, int64_t columns) { return rows == 16 && (columns == 32 || columns == 64); }

}  // namespace

const MatmulCode kMatmulCode = {0, 0, accepts_tile, pack_x, nullptr, gemm};

}  // namespace ingot::amx
