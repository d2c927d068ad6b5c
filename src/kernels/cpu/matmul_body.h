// Matrix multiplication y = function(x · wᵀ + bias) + residual, once for every instruction set: this file is included
// into the namespace of one, after its vector type V.
//
// Streaming form (few rows): weights are read once, in storage order, converted in registers and multiplied with all
// rows. Packed weights: a register holds features, x is broadcast. Row-major weights: a register runs along k, and a
// tile of dot products is summed across lanes at its end.
//
// Gemm form (many rows): a panel of tile_columns features and k_block of k is unpacked to f32 on the thread's stack,
// then every tile of up to tile_rows rows passes over it; the accumulators of a tile stay in registers over k_block and
// wait in y in between. Row-major weights are transposed while they are unpacked.
//
// An output element is always the work of one thread, with its products added in an order that depends on k alone and
// on the form, so neither timing nor the number of threads changes a result.

// --- packing x ----------------------------------------------------------------------------------------------------

// A tile of a k block is [kc][rows of the tile]; the blocks of k follow each other, each with all its tiles.
static float* packed_tile(const MatmulTask& task, int64_t k_begin, int64_t kc, int64_t first_row) {
  return static_cast<float*>(task.packed) + k_begin * task.rows + first_row * kc;
}

static void pack_tile(const float* x, int64_t stride, int64_t rows, int64_t kc, float* out) {
  for (int64_t first = 0; first < rows; first += kLanes) {
    int64_t count = rows - first < kLanes ? rows - first : kLanes;
    for (int64_t k = 0; k < kc; k += kLanes) {
      Reg square[kLanes];
      for (int i = 0; i < kLanes; ++i)
        square[i] = i < count ? load_floats(x + (first + i) * stride + k, kc - k) : V::zero();
      V::transpose(square);
      for (int i = 0; i < kLanes && k + i < kc; ++i) store_floats(out + (k + i) * rows + first, square[i], count);
    }
  }
}

static void pack_x(const MatmulTask& task, int64_t k_begin, int64_t tile_begin, int64_t tile_end) {
  RowTiles tiles(task.rows, task.tile_rows);
  int64_t kc = task.k - k_begin < task.k_block ? task.k - k_begin : task.k_block;
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    int64_t first = tiles.begin(tile), rows = tiles.begin(tile + 1) - first;
    pack_tile(task.x + first * task.k + k_begin, task.k, rows, kc, packed_tile(task, k_begin, kc, first));
  }
}

// --- streaming form, packed weights ---------------------------------------------------------------------------------

struct StripStream {
  const void* w;
  int64_t strip[4], step_stride;  // where the strips begin and how far apart their steps are, in elements
  const float* x;
  int64_t x_stride, k;
  float* y;
  int64_t y_stride, columns, prefetch_bytes;
};

// MR rows times NS strips over all of k. Packed: x is [k][MR], else MR rows x_stride apart. For few rows several sets
// of accumulators hide the latency of the additions.
template <class W, int MR, int NS, bool Packed>
static void stream_tile(const StripStream& s) {
  constexpr int kRegs = NS * kStripRegs, kSets = MR * kRegs >= 8 ? 1 : 8 / (MR * kRegs), kGroup = kSets * W::kStep;
  Reg acc[kSets][MR][kRegs];
  for (auto& set : acc)
    for (auto& row : set)
      for (Reg& r : row) r = V::zero();
  const typename W::T* w[NS];
  for (int strip = 0; strip < NS; ++strip) w[strip] = static_cast<const typename W::T*>(s.w) + s.strip[strip];
  auto add_group = [&](const float* x, int64_t x_stride) INGOT_LAMBDA_INLINE {
#pragma GCC unroll 8
    for (int set = 0; set < kSets; ++set) {
      Reg value[NS][W::kStep][kStripRegs];
#pragma GCC unroll 4
      for (int strip = 0; strip < NS; ++strip) {
        const typename W::T* p = w[strip] + set * s.step_stride;
        __builtin_prefetch(reinterpret_cast<const char*>(p) + s.prefetch_bytes, 0, 3);
        W::load_step(p, value[strip]);
      }
#pragma GCC unroll 2
      for (int step = 0; step < W::kStep; ++step)
#pragma GCC unroll 8
        for (int row = 0; row < MR; ++row) {
          int within = set * W::kStep + step;
          Reg b = V::broadcast(Packed ? x + within * MR + row : x + row * x_stride + within);
#pragma GCC unroll 8
          for (int i = 0; i < kRegs; ++i)
            acc[set][row][i] = V::fma(value[i / kStripRegs][step][i % kStripRegs], b, acc[set][row][i]);
        }
    }
#pragma GCC unroll 4
    for (int strip = 0; strip < NS; ++strip) w[strip] += kSets * s.step_stride;
  };
  int64_t k = 0;
  for (; k + kGroup <= s.k; k += kGroup) add_group(Packed ? s.x + k * MR : s.x + k, s.x_stride);
  if (k < s.k) {  // the weights are padded with zeros, x is not
    float rest[kGroup * MR] = {};
    for (int64_t i = 0; i < s.k - k; ++i)
      for (int row = 0; row < MR; ++row)
        (Packed ? rest[i * MR + row] : rest[row * kGroup + i]) =
            Packed ? s.x[(k + i) * MR + row] : s.x[row * s.x_stride + k + i];
    add_group(rest, kGroup);
  }
#pragma GCC unroll 8
  for (int row = 0; row < MR; ++row)
#pragma GCC unroll 8
    for (int i = 0; i < kRegs; ++i) {
      Reg sum = acc[0][row][i];
      for (int set = 1; set < kSets; ++set) sum = V::add(sum, acc[set][row][i]);
      int64_t left = s.columns - i * kLanes;
      if (left > 0) store_floats(s.y + row * s.y_stride + i * kLanes, sum, left);
    }
}

constexpr int64_t kStreamDirectRows = V::kStreamRows < 4 ? V::kStreamRows : 4;

// The tile function for `rows` rows and `strips` strips, a power of two that V::stream_strips allows for that many
// rows.
using StreamFunction = void (*)(const StripStream&);
template <class W, int MR, bool Packed, int NS = V::stream_strips(MR)>
static StreamFunction stream_function_of(int64_t strips) {
  if (strips == NS) return stream_tile<W, MR, NS, Packed>;
  if constexpr (NS > 1) return stream_function_of<W, MR, Packed, NS / 2>(strips);
  return nullptr;
}
template <class W, bool Packed, int MR = Packed ? V::kStreamRows : kStreamDirectRows>
static StreamFunction stream_function(int64_t rows, int64_t strips) {
  if (rows == MR) return stream_function_of<W, MR, Packed>(strips);
  constexpr int kFewest = Packed ? V::kStreamRows / 2 : 1;  // equal tiles are never shorter
  if constexpr (MR > kFewest) return stream_function<W, Packed, MR - 1>(rows, strips);
  return nullptr;
}

template <class W>
static void stream_strips(const MatmulTask& task, int64_t begin, int64_t end) {
  bool packed = task.rows > kStreamDirectRows;
  RowTiles tiles(task.rows, packed ? V::kStreamRows : kStreamDirectRows);
  int64_t most = V::stream_strips(static_cast<int>((task.rows + tiles.count - 1) / tiles.count));
  for (int64_t column = begin; column < end;) {
    int64_t strips = most;
    while (strips > 1 && end - column <= (strips - 1) * kStripColumns) strips /= 2;
    int64_t group_end = end - column < strips * kStripColumns ? end : column + strips * kStripColumns;
    StripStream s{.w = static_cast<const typename W::T*>(task.w), .k = task.k, .y_stride = task.n};
    for (int64_t i = 0; i < strips; ++i) s.strip[i] = strip_place<W>(task, column + i * kStripColumns).offset;
    s.step_stride = task.panel_columns * W::kStep;
    s.columns = group_end - column;
    s.x_stride = task.k;
    for (int64_t tile = 0; tile < tiles.count; ++tile) {
      int64_t row = tiles.begin(tile), rows = tiles.begin(tile + 1) - row;
      s.x = packed ? packed_tile(task, 0, task.k, row) : task.x + row * task.k;
      s.y = task.y + row * task.n + column;
      s.prefetch_bytes = tile == 0 ? task.prefetch_bytes : 0;
      (packed ? stream_function<W, true>(rows, strips) : stream_function<W, false>(rows, strips))(s);
    }
    column = group_end;
  }
}

// --- streaming form, row-major weights ------------------------------------------------------------------------------

struct DotStream {
  const void* w;
  int64_t w_stride;
  const float* x;
  int64_t x_stride, k;
  float* y;
  int64_t y_stride, y_step, prefetch_bytes;
};

template <class W, int NR, int MR>
static void dot_tile(const DotStream& s) {
  auto* w = static_cast<const typename W::T*>(s.w);
  Reg acc[NR][MR];
  for (auto& row : acc)
    for (Reg& r : row) r = V::zero();
  auto add = [&](int64_t k, bool whole) INGOT_LAMBDA_INLINE {
    Reg value[NR];
#pragma GCC unroll 8
    for (int c = 0; c < NR; ++c) {
      const typename W::T* p = w + c * s.w_stride + k;
      value[c] = whole ? W::load(p) : load_some<W>(p, s.k - k);
    }
#pragma GCC unroll 8
    for (int row = 0; row < MR; ++row) {
      const float* p = s.x + row * s.x_stride + k;
      Reg x = whole ? V::load(p) : V::load_partial(p, s.k - k);
#pragma GCC unroll 8
      for (int c = 0; c < NR; ++c) acc[c][row] = V::fma(value[c], x, acc[c][row]);
    }
  };
  constexpr int64_t kLine = 64 / sizeof(typename W::T);
  int64_t k = 0;
  for (; k + kLine <= s.k; k += kLine) {
#pragma GCC unroll 8
    for (int c = 0; c < NR; ++c)
      __builtin_prefetch(reinterpret_cast<const char*>(w + c * s.w_stride + k) + s.prefetch_bytes, 0, 3);
#pragma GCC unroll 8
    for (int64_t i = 0; i < kLine; i += kLanes) add(k + i, true);
  }
  for (; k + kLanes <= s.k; k += kLanes) add(k, true);
  if (k < s.k) add(k, false);
#pragma GCC unroll 8
  for (int row = 0; row < MR; ++row)
#pragma GCC unroll 8
    for (int c = 0; c < NR; ++c) s.y[row * s.y_stride + c * s.y_step] = V::sum(acc[c][row]);
}

using DotFunction = void (*)(const DotStream&);
template <class W, bool Single, int MR = V::kDotTileRows>
static DotFunction dot_function(int64_t rows) {
  constexpr int kColumns = Single ? 1 : V::dot_columns(MR);
  if (rows == MR) return dot_tile<W, kColumns, MR>;
  if constexpr (MR > 1) return dot_function<W, Single, MR - 1>(rows);
  return nullptr;
}

// The columns are cut into as many equal runs as a tile has columns, so that each is a long stream of its own: memory
// answers several far-apart streams faster than one, and a row alone is often no longer than a page.
template <class W>
static void stream_run(const MatmulTask& task, int64_t column, int64_t run, int64_t columns) {
  RowTiles tiles(task.rows, V::kDotTileRows);
  for (int64_t tile = 0; tile < tiles.count; ++tile) {
    int64_t row = tiles.begin(tile), rows = tiles.begin(tile + 1) - row;
    int64_t step = columns == 1 ? 1 : V::dot_columns(static_cast<int>(rows));
    for (int64_t c = 0; c < columns; c += step) {
      DotStream s{.w = static_cast<const typename W::T*>(task.w) + (column + c * run) * task.k,
                  .w_stride = run * task.k,
                  .x = task.x + row * task.k,
                  .x_stride = task.k,
                  .k = task.k,
                  .y = task.y + row * task.n + column + c * run,
                  .y_stride = task.n,
                  .y_step = run,
                  .prefetch_bytes = tile == 0 ? task.prefetch_bytes : 0};
      (columns == 1 ? dot_function<W, true>(rows) : dot_function<W, false>(rows))(s);
    }
  }
}

template <class W>
static void stream_rows(const MatmulTask& task, int64_t begin, int64_t end) {
  constexpr int64_t kRuns = 8;
  int64_t run = (end - begin) / kRuns;
  for (int64_t i = 0; i < run; ++i) stream_run<W>(task, begin + i, run, kRuns);
  for (int64_t column = begin + run * kRuns; column < end; ++column) stream_run<W>(task, column, 0, 1);
}

static void stream(const MatmulTask& task, int64_t begin, int64_t end) {
  with_weights(task.format, [&](auto weights) {
    if (task.panel_columns == 0)
      stream_rows<decltype(weights)>(task, begin, end);
    else
      stream_strips<decltype(weights)>(task, begin, end);
  });
  finish(task, 0, task.rows, begin, end);
}

// --- gemm form ------------------------------------------------------------------------------------------------------

// panel[k][tile_columns] from strips; columns past n are whatever the padding holds, zeros.
template <class W>
static void unpack_strips(const MatmulTask& task, int64_t column, int64_t k_begin, int64_t kc, float* panel) {
  int64_t stored = (task.n + task.panel_columns - 1) / task.panel_columns * task.panel_columns;
  for (int64_t c = 0; c < task.tile_columns; c += kStripColumns) {
    if (column + c >= stored) {
      for (int64_t k = 0; k < kc; ++k)
        for (int i = 0; i < kStripRegs; ++i) V::store(panel + k * task.tile_columns + c + i * kLanes, V::zero());
      continue;
    }
    StripPlace place = strip_place<W>(task, column + c);
    auto* w = static_cast<const typename W::T*>(task.w) + place.offset + k_begin / W::kStep * place.step_stride;
    for (int64_t k = 0; k < kc; k += W::kStep, w += place.step_stride) {
      Reg value[W::kStep][kStripRegs];
      W::load_step(w, value);
      for (int step = 0; step < W::kStep; ++step)  // an odd kc writes one row more, which the panel has room for
        for (int i = 0; i < kStripRegs; ++i)
          V::store(panel + (k + step) * task.tile_columns + c + i * kLanes, value[step][i]);
    }
  }
}

template <class W>
static void unpack_rows(const MatmulTask& task, int64_t column, int64_t k_begin, int64_t kc, float* panel) {
  for (int64_t c = 0; c < task.tile_columns; c += kLanes) {
    for (int64_t k = 0; k < kc; k += kLanes * W::kStep) {
      Reg square[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        int64_t row = column + c + i;
        square[i] = row < task.n ? load_some_pairs<W>(
                                       static_cast<const typename W::T*>(task.w) + row * task.k + k_begin + k, kc - k)
                                 : V::zero();
      }
      V::transpose(square);
      for (int i = 0; i < kLanes && k + i * W::kStep < kc; ++i) {
        Reg value[W::kStep];
        W::split(square[i], value);
        for (int step = 0; step < W::kStep; ++step)
          V::store(panel + (k + i * W::kStep + step) * task.tile_columns + c, value[step]);
      }
    }
  }
}

struct GemmTile {
  const float* x;      // [k][MR]
  const float* panel;  // [k][NV * kLanes]
  int64_t k;
  float* y;
  int64_t y_stride, columns;
  bool accumulate;
};

template <int MR, int NV>
static void gemm_tile(const GemmTile& t) {
  Reg acc[MR][NV];
#pragma GCC unroll 16
  for (int row = 0; row < MR; ++row)
#pragma GCC unroll 4
    for (int i = 0; i < NV; ++i) acc[row][i] = V::zero();
  const float* x = t.x;
  const float* panel = t.panel;
  auto add = [&](int64_t k) INGOT_LAMBDA_INLINE {
    Reg w[NV];
#pragma GCC unroll 4
    for (int i = 0; i < NV; ++i) w[i] = V::load(panel + (k * NV + i) * kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < MR; ++row) {
      Reg b = V::broadcast(x + k * MR + row);
#pragma GCC unroll 4
      for (int i = 0; i < NV; ++i) acc[row][i] = V::fma(w[i], b, acc[row][i]);
    }
  };
  constexpr int64_t kUnroll = V::kGemmUnroll, kLine = 16;  // floats of a cache line
  int64_t k = 0;
  for (; k + kUnroll <= t.k; k += kUnroll, x += kUnroll * MR, panel += kUnroll * NV * kLanes) {
    // Both operands come from the second-level cache in the middle of other work: ask for them early, line by line.
    for (int64_t i = 0; i < kUnroll * NV * kLanes; i += kLine) __builtin_prefetch(panel + 8 * NV * kLanes + i);
    for (int64_t i = 0; i < kUnroll * MR; i += kLine) __builtin_prefetch(x + 16 * MR + i);
#pragma GCC unroll 4
    for (int64_t step = 0; step < kUnroll; ++step) add(step);
  }
  for (; k < t.k; ++k, x += MR, panel += NV * kLanes) add(0);
#pragma GCC unroll 16
  for (int row = 0; row < MR; ++row)
#pragma GCC unroll 4
    for (int i = 0; i < NV; ++i) {
      float* y = t.y + row * t.y_stride + i * kLanes;
      int64_t left = t.columns - i * kLanes;
      if (left <= 0) continue;
      Reg sum = t.accumulate ? V::add(load_floats(y, left), acc[row][i]) : acc[row][i];
      store_floats(y, sum, left);
    }
}

using GemmFunction = void (*)(const GemmTile&);
template <int NV, int MR = V::kAccumulators / NV>
static GemmFunction gemm_function(int64_t rows) {
  if (rows == MR) return gemm_tile<MR, NV>;
  if constexpr (MR > 1) return gemm_function<NV, MR - 1>(rows);
  return nullptr;
}

constexpr int kFewRegs = kStripRegs > 2 ? kStripRegs : 2;  // a whole strip at least
static GemmFunction gemm_function_for(int64_t columns, int64_t rows) {
  if (columns == kFewRegs * kLanes) return gemm_function<kFewRegs>(rows);
  if constexpr (3 * kLanes % kStripColumns == 0) return gemm_function<3>(rows);
  return nullptr;
}

static bool accepts_tile(int64_t rows, int64_t columns) {
  if (columns != kFewRegs * kLanes && !(columns == 3 * kLanes && columns % kStripColumns == 0)) return false;
  return rows > 0 && rows <= V::kAccumulators / (columns / kLanes);
}

static void gemm_panel(const MatmulTask& task, const MatmulRange& range, int64_t column, int64_t k_begin,
                       const float* panel) {
  RowTiles tiles(task.rows, task.tile_rows);
  int64_t kc = task.k - k_begin < task.k_block ? task.k - k_begin : task.k_block;
  int64_t columns = range.column_end - column < task.tile_columns ? range.column_end - column : task.tile_columns;
  for (int64_t tile = range.tile_begin; tile < range.tile_end; ++tile) {
    int64_t first = tiles.begin(tile), rows = tiles.begin(tile + 1) - first;
    GemmTile t{.x = packed_tile(task, k_begin, kc, first),
               .panel = panel,
               .k = kc,
               .y = task.y + first * task.n + column,
               .y_stride = task.n,
               .columns = columns,
               .accumulate = k_begin > 0};
    gemm_function_for(task.tile_columns, rows)(t);
    if (k_begin + kc == task.k) finish(task, first, first + rows, column, column + columns);
  }
}

static void gemm(const MatmulTask& task, const MatmulRange& range) {
  alignas(64) float panel[kPanelFloats];
  for (int64_t k_begin = 0; k_begin < task.k; k_begin += task.k_block) {
    int64_t kc = task.k - k_begin < task.k_block ? task.k - k_begin : task.k_block;
    for (int64_t column = range.column_begin; column < range.column_end; column += task.tile_columns) {
      with_weights(task.format, [&](auto weights) {
        if (task.panel_columns == 0)
          unpack_rows<decltype(weights)>(task, column, k_begin, kc, panel);
        else
          unpack_strips<decltype(weights)>(task, column, k_begin, kc, panel);
      });
      gemm_panel(task, range, column, k_begin, panel);
    }
  }
}
