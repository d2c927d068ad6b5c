#include "tactics/cpu/matmul.h"

#include <algorithm>
#include <array>

#include "base/fields.h"
#include "kernels/cpu/matmul.h"

#ifndef INGOT_SOURCE_HASH
#define INGOT_SOURCE_HASH "1"
#endif

namespace ingot {

namespace {

struct Tile {
  int64_t rows, columns, k_block;
};

struct SourceTraits {
  std::string_view name;
  CpuLevel level;
  std::span<const Tile> tiles;  // best guess first
  int64_t stream_most;          // rows from which the streaming form stops being offered
  int64_t gemm_least;           // rows from which the gemm form begins to be
  int64_t gemm_better;          // rows from which it is the best guess
};

// Row-major weights are read without a second copy in any other program, panels with the fewest instructions; two
// strips side by side are one stream of memory, and a single strip suits tiles of 16 and 48 columns.
constexpr std::string_view kLayouts[] = {"panel_32", "panel_16", ""};

class MatmulSource final : public TacticSource {
 public:
  explicit MatmulSource(const SourceTraits& traits) : traits_(traits) {}
  std::string_view name() const override { return traits_.name; }
  std::string_view version() const override { return INGOT_SOURCE_HASH; }

  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem& problem,
                                                                const Target& target) const override {
    if (auto reason = refusal(problem, target); !reason.empty()) return Unsupported{reason};
    int64_t rows = problem.inputs[0].shape[0].constant();
    std::vector<std::string> streams, gemms, configs;
    for (std::string_view layout : kLayouts) {
      if (rows < traits_.stream_most)
        streams.push_back(print_fields(MatmulTiling{.form = MatmulForm::kStream, .layout = std::string(layout)}));
      if (rows < traits_.gemm_least) continue;
      for (const Tile& tile : traits_.tiles) {
        if (layout == "panel_32" && tile.columns % 32 != 0) continue;
        gemms.push_back(print_fields(MatmulTiling{.form = MatmulForm::kGemm,
                                                  .layout = std::string(layout),
                                                  .rows = tile.rows,
                                                  .columns = tile.columns,
                                                  .k_block = tile.k_block}));
      }
    }
    bool gemm_first = rows >= traits_.gemm_better || streams.empty();
    for (auto* part : {gemm_first ? &gemms : &streams, gemm_first ? &streams : &gemms})
      configs.insert(configs.end(), part->begin(), part->end());
    return configs;
  }

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target&) const override {
    Lexer lexer(config);
    auto tiling = parse_fields<MatmulTiling>(lexer);
    MatmulParameters parameters;
    static_cast<Matmul&>(parameters) = *problem.op.as<Matmul>();
    static_cast<MatmulTiling&>(parameters) = tiling;
    CompiledTactic tactic;
    CompiledStep step{.kernel = std::string(traits_.name), .parameters = print_fields(parameters)};
    int arguments = static_cast<int>(problem.inputs.size()) + 1;
    for (int i = 0; i < arguments; ++i) step.arguments.push_back(i);
    tactic.steps.push_back(std::move(step));
    tactic.input_layouts.resize(problem.inputs.size());
    tactic.input_layouts[1] = tiling.layout;
    int64_t rows = problem.inputs[0].shape[0].constant(), k = problem.inputs[0].shape[1].constant();
    tactic.scratch_bytes = matmul_scratch_bytes(tiling, rows, k);
    return tactic;
  }

 private:
  std::string refusal(const Problem& problem, const Target& target) const {
    if (!problem.op.is<Matmul>()) return "is not a matmul";
    if (target.kind != "cpu") return "runs on the CPU";
    if (target.cpu_level < traits_.level) return format("needs {}", enum_name(traits_.level));
    for (size_t i = 0; i < problem.inputs.size(); ++i) {
      DType dtype = problem.inputs[i].dtype;
      bool weight = dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
      if (i == 1 ? !weight : dtype != DType::kF32)
        return format("input {} is {}: activations must be f32, weights f32, f16 or bf16", i, enum_name(dtype));
    }
    return "";
  }

  const SourceTraits& traits_;
};

constexpr Tile kPortableTiles[] = {{3, 16, 512}, {3, 16, 256}};
constexpr SourceTraits kPortable = {"cpu.matmul_portable", CpuLevel::kPortable, kPortableTiles, 17, 2, 4};

constexpr Tile kAvx2Tiles[] = {{6, 16, 512}, {6, 16, 256}, {6, 16, 1024}};
constexpr SourceTraits kAvx2 = {"cpu.matmul_avx2", CpuLevel::kAvx2, kAvx2Tiles, 33, 4, 12};

constexpr Tile kAvx512Tiles[] = {{14, 32, 512}, {12, 32, 512}, {14, 32, 256}, {9, 48, 512}};
constexpr SourceTraits kAvx512 = {"cpu.matmul_avx512", CpuLevel::kAvx512, kAvx512Tiles, 33, 6, 16};

}  // namespace

const TacticSource* matmul_portable_source() {
  static const MatmulSource source(kPortable);
  return &source;
}
const TacticSource* matmul_avx2_source() {
  static const MatmulSource source(kAvx2);
  return &source;
}
const TacticSource* matmul_avx512_source() {
  static const MatmulSource source(kAvx512);
  return &source;
}

}  // namespace ingot
