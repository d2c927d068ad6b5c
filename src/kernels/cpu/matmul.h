// The CPU kernels of ops/matmul.h: what a tactic may ask of them, and how much scratch memory that takes.
#pragma once

#include <span>
#include <tuple>

#include "kernels/cpu/handover.h"
#include "kernels/kernel.h"
#include "ops/matmul.h"

namespace ingot {

// stream: weights are converted as they are read, once for all rows: for few rows. gemm: weights are unpacked to panels
// that many row tiles share: for many rows. pairs: x is rounded to bf16 and pairs along k are multiplied at once (bf16
// weights only): what VDPBF16PS and AMX do, for any number of rows. Each is right for any number of rows.
enum class MatmulForm { kStream, kGemm, kPairs };
std::span<const std::string_view> enum_names(MatmulForm);

// One way to run a matmul: the configuration of a tactic.
struct MatmulTiling {
  MatmulForm form = MatmulForm::kStream;
  std::string layout;             // of the weight: "" (row major), "panel_16", "panel_32"
  int64_t rows = 0, columns = 0;  // gemm, pairs: the tile held in registers
  int64_t k_block = 0;            // gemm, pairs: the depth that a tile passes over at once
  int64_t prefetch = 0;           // stream: bytes between a read and the prefetch ahead of it
  static constexpr auto fields() {
    return std::tuple{field("form", &MatmulTiling::form),       field("layout", &MatmulTiling::layout),
                      field("rows", &MatmulTiling::rows),       field("columns", &MatmulTiling::columns),
                      field("k_block", &MatmulTiling::k_block), field("prefetch", &MatmulTiling::prefetch)};
  }
};

// Products of many rows with AMX read x as others hand it over, and write y so.
struct MatmulHandover : GivesTiles {
  bool takes_tiles = false;  // x is in tiles, in blocks of k_block columns
  static constexpr auto fields() {
    return std::tuple_cat(std::tuple{field("takes_tiles", &MatmulHandover::takes_tiles)}, GivesTiles::fields());
  }
};

// The parameters of a kernel: "{bias = true, form = gemm, rows = 12, columns = 32, k_block = 512}".
struct MatmulParameters : Matmul, MatmulTiling, MatmulHandover {
  static constexpr auto fields() {
    return std::tuple_cat(Matmul::fields(), MatmulTiling::fields(), MatmulHandover::fields());
  }
};

// The form pairs unpacks row-major weights to a buffer of this many elements: columns * k_block must not exceed it.
constexpr int64_t kMatmulUnpackedPairs = 49152;

// What the code of an instruction set (matmul_task.h) is told of a weight: its numbers, and the columns of a panel of
// its layout, 0 for row major. A layout that the matrix products do not read is an Error with kIncompatible.
enum class WeightFormat;
WeightFormat weight_format(DType dtype);
int64_t panel_columns(std::string_view layout);

// Whether products of such a tiling can read x in tiles, and write y in tiles: of at least so many rows that f32 takes
// more room. n is the weight's.
bool takes_tiles(const MatmulTiling& tiling, int64_t rows, int64_t k);
bool gives_tiles(const MatmulParameters& parameters, int64_t rows, int64_t n);

// Whether the products of a gated matmul apply the activation themselves; else it follows them, from scratch memory.
bool gates_products(const MatmulParameters& parameters, int64_t n);

// Enough for `rows` and every smaller number; n and k are the weight's.
int64_t matmul_scratch_bytes(const MatmulParameters& parameters, int64_t rows, int64_t n, int64_t k);

// Kernels named cpu.matmul_portable and so on. Arguments: x, w, bias and residual if the op has them, y. The last two
// have the form pairs only, the others the other two.
std::unique_ptr<Kernel> make_matmul_portable(std::string_view parameters);
std::unique_ptr<Kernel> make_matmul_avx2(std::string_view parameters);
std::unique_ptr<Kernel> make_matmul_avx512(std::string_view parameters);
std::unique_ptr<Kernel> make_matmul_avx512_bf16(std::string_view parameters);
std::unique_ptr<Kernel> make_matmul_amx(std::string_view parameters);

}  // namespace ingot
