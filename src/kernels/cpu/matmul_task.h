// What the matrix multiplication code of one instruction set is given, and what it offers. The files compiled for wider
// instruction sets see only this: plain data and function pointers, so that no inline function of a shared header is
// ever compiled for an instruction set that the machine may lack.
#pragma once

#include <cstdint>

#include "ops/activation_function.h"

namespace ingot {

enum class WeightFormat { kF32, kF16, kBF16 };

// A strip of a packed weight holds 16 output features.
constexpr int64_t kStripColumns = 16;
// Packed weights fill k up with zeros to a multiple of this: one AMX tile of bf16.
constexpr int64_t kPackedDepth = 32;
// The largest f32 panel that `gemm` unpacks weights into; it lives on the stack of the thread.
constexpr int64_t kPanelFloats = 24576;

// y = function(x · wᵀ + bias) + residual for a block of rows; gated: y = function(x · w₁ᵀ) * (x · w₂ᵀ), where w₁ is the
// first half of w, and there is neither bias nor residual.
struct MatmulTask {
  const float* x = nullptr;         // [rows, k]
  const void* w = nullptr;          // [n, k] in the layout below
  const float* bias = nullptr;      // [n] or none
  const float* residual = nullptr;  // [rows, n] or none
  float* y = nullptr;               // [rows, n], gated: [rows, n / 2]
  void* packed = nullptr;           // x as pack_x left it
  void* packed_y = nullptr;         // instead of y: what pack_x would make of it, in blocks of y_block
  int64_t rows = 0, n = 0, k = 0;
  ActivationFunction function = ActivationFunction::kNone;
  bool gated = false;  // only for code that says gates
  void (*activate)(ActivationFunction function, const float* x, float* y, int64_t count) = nullptr;
  void (*gate)(ActivationFunction function, const float* gate, const float* up, float* y, int64_t count) = nullptr;
  WeightFormat format = WeightFormat::kBF16;
  int64_t panel_columns = 0;  // 0: row major; 16, 32: strips stored side by side in panels of so many features
  int64_t tile_rows = 0, tile_columns = 0, k_block = 0;
  int64_t prefetch_bytes = 0;  // how far ahead of its reads the streaming form asks for weights
  int64_t y_block = 0;         // a multiple of 32
  int64_t cut_rows = 256;      // AMX: as many pass by the same weights, 256 or 512

  int64_t columns() const { return gated ? n / 2 : n; }  // of y
};

// Rows are cut into equal tiles of at most tile_rows.
struct RowTiles {
  int64_t rows, count;
  RowTiles(int64_t rows_, int64_t tile_rows) : rows(rows_), count((rows_ + tile_rows - 1) / tile_rows) {}
  int64_t begin(int64_t tile) const { return tile * rows / count; }
};

struct MatmulRange {
  int64_t column_begin, column_end;  // of y
  int64_t tile_begin, tile_end;      // row tiles
  int64_t next_column = -1;          // where the thread will probably go on in the same rows; -1: unknown
};

struct MatmulCode {
  int64_t stream_rows;         // the tile_rows of the streaming form
  int64_t stream_direct_rows;  // up to here the streaming form reads x itself and needs no pack_x
  bool (*accepts_tile)(int64_t rows, int64_t columns);  // whether the gemm form has such register tiles
  // Packs the row tiles [begin, end) of one block of k, from k_begin on, for both forms.
  void (*pack_x)(const MatmulTask& task, int64_t k_begin, int64_t tile_begin, int64_t tile_end);
  // All rows of columns [begin, end), weights converted as they arrive; begin is a multiple of 32.
  void (*stream)(const MatmulTask& task, int64_t column_begin, int64_t column_end);
  // A range of the output with weights unpacked to panels of tile_columns; column_begin is a multiple of those, of half
  // of them if gated.
  void (*gemm)(const MatmulTask& task, const MatmulRange& range);
};

namespace portable {
extern const MatmulCode kMatmulCode;
}
namespace avx2 {
extern const MatmulCode kMatmulCode;
}
namespace avx512 {
extern const MatmulCode kMatmulCode;
}
// These two have the gemm form only, with x packed as pairs of bf16, and weights of bf16.
namespace avx512_bf16 {
extern const MatmulCode kMatmulCode;
}
namespace amx {
extern const MatmulCode kMatmulCode;
}

}  // namespace ingot
