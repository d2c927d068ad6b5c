#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <array>
#include <atomic>

#include "base/error.h"
#include "base/fields.h"
#include "device/target.h"
#include "kernels/cpu/matmul_task.h"
#include "kernels/cpu/op_kernel.h"
#include "kernels/cpu/vector_functions.h"

namespace ingot {

namespace {

constexpr std::array<std::string_view, 3> kFormNames = {"stream", "gemm", "pairs"};
constexpr int64_t kAlignment = 64;
static_assert(kMatmulUnpackedPairs == 2 * kPanelFloats);

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// What packed rows of x take.
int64_t packed_bytes(const MatmulTiling& tiling, int64_t rows, int64_t k) {
  if (tiling.form == MatmulForm::kPairs)
    return round_up(std::min(rows, kMatmulRowBlock), 32) * round_up(k, kPackedDepth) * 2;
  return round_up(std::min(rows, kMatmulRowBlock) * k * static_cast<int64_t>(sizeof(float)), kAlignment);
}

// Threads take columns in pieces that are long enough for four strips side by side and short enough to share evenly.
int64_t stream_grain(const MatmulTask& task, int64_t element_bytes, int threads) {
  constexpr int64_t kPieceBytes = 256 << 10, kPieceColumns = 4 * kStripColumns;
  int64_t unit = std::max<int64_t>(task.panel_columns, kStripColumns);
  int64_t wanted = std::max(kPieceColumns, kPieceBytes / std::max<int64_t>(1, task.k * element_bytes));
  int64_t fair = task.n / (4 * threads);
  return round_up(std::max<int64_t>(1, std::min(wanted, fair)), unit);
}

// The form that keeps its sums apart from y, and passes over rows in cuts that the L2 cache holds.
bool cuts_rows(const MatmulTiling& tiling) {
  return tiling.form == MatmulForm::kPairs && tiling.rows == 16 && tiling.columns == 32;
}

class MatmulKernel final : public Kernel {
 public:
  MatmulKernel(const MatmulCode& code, CpuLevel level, std::string_view parameters)
      : code_(code), functions_(vector_functions(level)) {
    auto parsed = parse_kernel_parameters<MatmulParameters>(parameters);
    op_ = parsed;
    tiling_ = parsed;
    handover_ = parsed;
    check_tiles_block(handover_.gives_tiles);
    panel_columns_ = panel_columns(tiling_.layout);
    bool fits = tiling_.form == MatmulForm::kStream ? code.stream != nullptr : fits_tile();
    if (!fits)
      fail(ErrorCode::kIncompatible, "this build of ingot cannot run the matmul tiling {}; rebuild the engine",
           print_fields(tiling_));
    if (!hands_over())
      fail(ErrorCode::kIncompatible, "this build of ingot cannot hand over {}; rebuild the engine",
           print_fields(handover_));
  }

  AnyOp op() const override { return op_; }
  void run(const Launch& launch) const override {
    size_t next = 0;
    auto argument = [&]() -> const Argument& { return launch.arguments[next++]; };
    const Argument &x = argument(), &w = argument();
    MatmulTask task;
    task.x = x.as<const float>();
    task.w = w.data;
    if (op_.bias) task.bias = argument().as<const float>();
    if (op_.residual) task.residual = argument().as<const float>();
    task.y = argument().as<float>();
    task.packed = launch.scratch;
    task.n = w.size[0];
    task.k = w.size[1];
    task.function = op_.function;
    task.activate = functions_.activate;
    task.gate = functions_.gate;
    task.gated = op_.gated && gates_products({op_, tiling_, {}}, task.n);
    task.y_block = handover_.gives_tiles;
    task.format = weight_format(w.dtype);
    task.panel_columns = panel_columns_;
    task.prefetch_bytes = tiling_.prefetch;
    int64_t rows = 1;
    for (int axis = 0; axis + 1 < x.rank; ++axis) rows *= x.size[static_cast<size_t>(axis)];
    bool apart = op_.gated && !task.gated;
    if (apart) task.function = ActivationFunction::kNone;
    float* y = task.y;
    auto* launch_y = reinterpret_cast<std::byte*>(y);
    for (int64_t row = 0; row < rows; row += kMatmulRowBlock) {
      task.rows = std::min(rows - row, kMatmulRowBlock);
      task.y = y;
      if (apart) task.y = reinterpret_cast<float*>(launch.scratch + packed_bytes(tiling_, task.rows, task.k));
      if (handover_.takes_tiles) task.packed = x.as<std::byte>() + row * task.k * 2;
      if (handover_.gives_tiles) task.packed_y = launch_y + row * task.columns() * 2;
      if (tiling_.form == MatmulForm::kStream)
        stream(task, size_of(w.dtype), *launch.threads);
      else
        gemm(task, *launch.threads);
      if (apart) gate(task, y, *launch.threads);
      task.x += task.rows * task.k;
      y += task.rows * (op_.gated ? task.n / 2 : task.n);
      if (task.residual) task.residual += task.rows * task.n;
    }
  }

 private:
  bool hands_over() const {
    const bool gives = handover_.gives_tiles > 0;
    if (!handover_.takes_tiles && !gives) return true;
    return cuts_rows(tiling_) && (!gives || (op_.gated && !op_.bias));
  }

  bool fits_tile() const {
    bool pairs = tiling_.form == MatmulForm::kPairs;
    if (pairs != (code_.stream == nullptr) || !code_.accepts_tile(tiling_.rows, tiling_.columns)) return false;
    if (tiling_.k_block <= 0 || tiling_.k_block % kPackedDepth != 0) return false;
    if (!pairs && panel_columns_ > 0 && tiling_.columns % panel_columns_ != 0) return false;
    bool unpacks = !pairs || panel_columns_ == 0;
    return !unpacks || tiling_.k_block * tiling_.columns <= (pairs ? kMatmulUnpackedPairs : kPanelFloats);
  }

  void stream(MatmulTask task, int64_t element_bytes, ThreadPool& threads) const {
    task.tile_rows = code_.stream_rows;
    task.k_block = task.k;
    if (panel_columns_ && task.rows > code_.stream_direct_rows) {
      RowTiles tiles(task.rows, task.tile_rows);
      threads.parallel_for(tiles.count, 1, [&](int64_t begin, int64_t end) { code_.pack_x(task, 0, begin, end); });
    }
    threads.parallel_for(task.n, stream_grain(task, element_bytes, threads.size()),
                         [&](int64_t begin, int64_t end) { code_.stream(task, begin, end); });
  }

  // From both halves of task.y to y. Elements rather than rows are shared: one row of a wide model is work for several
  // threads.
  void gate(const MatmulTask& task, float* y, ThreadPool& threads) const {
    int64_t n = task.n / 2;
    threads.parallel_for(task.rows * n, kGateGrain, [&](int64_t begin, int64_t end) {
      for (int64_t count; begin < end; begin += count) {
        int64_t row = begin / n, column = begin % n;
        count = std::min(end - begin, n - column);
        const float* both = task.y + row * task.n + column;
        functions_.gate(op_.function, both, both + n, y + begin, count);
      }
    });
  }

  void gemm(MatmulTask task, ThreadPool& threads) const {
    task.tile_rows = tiling_.rows;
    task.tile_columns = tiling_.columns;
    task.k_block = tiling_.k_block;
    task.cut_rows = rows_at_once(task, threads.size());
    Pieces pieces = cut(task, threads.size());
    const int64_t panel = task.gated ? task.tile_columns / 2 : task.tile_columns;  // columns of y
    int64_t k_blocks = (task.k + task.k_block - 1) / task.k_block;
    if (!handover_.takes_tiles)
      for_each_piece(threads, pieces.rows, [&](int64_t piece, std::atomic<int64_t>& next) {
        int64_t begin = pieces.begin(piece), end = pieces.begin(piece + 1) * k_blocks;
        for (int64_t i; (i = begin * k_blocks + next.fetch_add(1, std::memory_order_relaxed)) < end;)
          code_.pack_x(task, i % k_blocks * task.k_block, i / k_blocks, i / k_blocks + 1);
      });
    for_each_piece(threads, pieces.rows, [&](int64_t piece, std::atomic<int64_t>& next) {
      for (Chunk chunk = take(pieces, next); chunk.panels > 0; chunk = take(pieces, next)) {
        MatmulRange range{chunk.first * panel, (chunk.first + chunk.panels) * panel, pieces.begin(piece),
                          pieces.begin(piece + 1)};
        range.column_end = std::min(task.columns(), range.column_end);
        // A guess: the others that work on these rows take a chunk each before it is this thread's turn again.
        int64_t others = std::max<int64_t>(0, threads.size() / pieces.rows - 1);
        range.next_column = (next.load(std::memory_order_relaxed) + others * chunk.panels) * panel;
        code_.gemm(task, range);
      }
    });
  }

  // A product that is too deep for the L2 cache to hold its x reads x anew for each chunk and the weights for each
  // piece of rows. With widest chunks and all rows to a thread both come once for as many products as there is room for
  // sums.
  static int64_t rows_at_once(const MatmulTask& task, int threads) {
    bool widest = task.n >= threads * kWidestPanels * task.tile_columns;
    return task.k > kShallow && task.rows > kPairRows && widest ? kMatmulRowBlock : kPairRows;
  }

  // How the output is shared: rows in pieces of row tiles, the columns of each in chunks of panels of tile_columns.
  struct Pieces {
    int64_t tiles, rows, panels;  // row tiles; pieces of them; panels
    int64_t narrowest, widest;    // chunks, in panels
    int64_t share;                // the part of the panels left that a chunk takes
    int64_t begin(int64_t piece) const { return tiles * piece / rows; }
  };
  struct Chunk {
    int64_t first, panels;
  };

  // Wide chunks read x less often, so they are as wide as leaves four for every thread, and rows are cut only when
  // columns run out. Forms that cut rows anyway, into blocks whose packed x a thread's L2 cache can hold, do not mind
  // narrow chunks: these get narrower towards the end, for threads can differ by a factor of two in speed.
  Pieces cut(const MatmulTask& task, int threads) const {
    const bool blocked = cuts_rows(tiling_);
    int64_t tiles = RowTiles(task.rows, task.tile_rows).count, wanted = threads == 1 ? 1 : 4 * threads;
    int64_t panels = (task.n + task.tile_columns - 1) / task.tile_columns;
    int64_t rows = blocked ? (task.rows + task.cut_rows - 1) / task.cut_rows : 1;
    int64_t widest = blocked ? kWidestPanels : kPieceColumns / task.tile_columns;
    int64_t width = std::clamp<int64_t>(panels * rows / wanted, 1, widest);
    rows = std::clamp<int64_t>(std::max(rows, wanted / ((panels + width - 1) / width)), 1,
                               std::min(tiles, kMostRowPieces));
    if (threads == 1) return {tiles, rows, panels, widest, widest, 1};
    if (!blocked) return {tiles, rows, panels, width, width, 1};
    int64_t narrowest = task.k > kShallow ? std::clamp<int64_t>(panels * rows / (4 * threads), 1, 4) : 1;
    int64_t share = task.cut_rows > kPairRows ? threads : 3 * threads / rows;
    return {tiles, rows, panels, narrowest, widest, std::max<int64_t>(1, share)};
  }

  static Chunk take(const Pieces& pieces, std::atomic<int64_t>& next) {
    int64_t first = next.load(std::memory_order_relaxed), panels = 0;
    do {
      if (first >= pieces.panels) return {};
      panels = std::clamp((pieces.panels - first) / pieces.share, pieces.narrowest, pieces.widest);
      panels = std::min(panels, pieces.panels - first);
    } while (!next.compare_exchange_weak(first, first + panels, std::memory_order_relaxed));
    return {first, panels};
  }

  // f(piece, counter of the piece) on every thread, which keeps to a piece of rows while there is work left in it.
  template <class F>
  static void for_each_piece(ThreadPool& threads, int64_t pieces, F&& f) {
    struct alignas(64) Counter {
      std::atomic<int64_t> next{0};
    };
    std::array<Counter, kMostRowPieces> counters;
    threads.run([&](int thread) {
      for (int64_t i = 0; i < pieces; ++i) {
        int64_t piece = (thread + i) % pieces;
        f(piece, counters[static_cast<size_t>(piece)].next);
      }
    });
  }

  static constexpr int64_t kGateGrain = 1024;
  static constexpr int64_t kPairRows = 256, kShallow = 2048, kWidestPanels = 16;
  static constexpr int64_t kMostRowPieces = 64;
  static constexpr int64_t kPieceColumns = 256;

  const MatmulCode& code_;
  const VectorFunctions& functions_;
  Matmul op_;
  MatmulTiling tiling_;
  MatmulHandover handover_;
  int64_t panel_columns_ = 0;
};

}  // namespace

std::span<const std::string_view> enum_names(MatmulForm) { return kFormNames; }

WeightFormat weight_format(DType dtype) {
  if (dtype == DType::kBF16) return WeightFormat::kBF16;
  return dtype == DType::kF16 ? WeightFormat::kF16 : WeightFormat::kF32;
}

int64_t panel_columns(std::string_view layout) {
  if (layout.empty()) return 0;
  if (layout == "panel_16") return 16;
  if (layout == "panel_32") return 32;
  fail(ErrorCode::kIncompatible, "the weight layout \"{}\" is not one that the matrix products read", layout);
}

bool takes_tiles(const MatmulTiling& tiling, int64_t rows, int64_t k) {
  return cuts_rows(tiling) && tiles_fit(rows, k);
}

bool gives_tiles(const MatmulParameters& parameters, int64_t rows, int64_t n) {
  return parameters.gated && gates_products(parameters, n) && tiles_fit(rows, n / 2);
}

bool gates_products(const MatmulParameters& parameters, int64_t n) {
  return cuts_rows(parameters) && !parameters.bias && n % (2 * kStripColumns) == 0;
}

int64_t matmul_scratch_bytes(const MatmulParameters& parameters, int64_t rows, int64_t n, int64_t k) {
  int64_t bytes = parameters.takes_tiles ? 0 : packed_bytes(parameters, rows, k);
  if (parameters.gated && !gates_products(parameters, n))
    bytes += std::min(rows, kMatmulRowBlock) * n * static_cast<int64_t>(sizeof(float));
  return bytes;
}

std::unique_ptr<Kernel> make_matmul_portable(std::string_view parameters) {
  return std::make_unique<MatmulKernel>(portable::kMatmulCode, CpuLevel::kPortable, parameters);
}
std::unique_ptr<Kernel> make_matmul_avx2(std::string_view parameters) {
  return std::make_unique<MatmulKernel>(avx2::kMatmulCode, CpuLevel::kAvx2, parameters);
}
std::unique_ptr<Kernel> make_matmul_avx512(std::string_view parameters) {
  return std::make_unique<MatmulKernel>(avx512::kMatmulCode, CpuLevel::kAvx512, parameters);
}
std::unique_ptr<Kernel> make_matmul_avx512_bf16(std::string_view parameters) {
  return std::make_unique<MatmulKernel>(avx512_bf16::kMatmulCode, CpuLevel::kAvx512, parameters);
}
std::unique_ptr<Kernel> make_matmul_amx(std::string_view parameters) {
  return std::make_unique<MatmulKernel>(amx::kMatmulCode, CpuLevel::kAvx512, parameters);
}

}  // namespace ingot
