// The sources "cuda.matmul_mma" and "cuda.matmul": products of any sizes in tiles, on the tensor cores and in true f32.
// The second refuses nothing.
#include "tactics/cuda/matmul.h"

#include <algorithm>

#include "base/fields.h"
#include "tactics/cuda/matmul_problem.h"

namespace ingot {

namespace {

struct Tiling {
  int64_t rows = 0, columns = 0, warps_m = 0, warps_n = 0, stages = 0;
  static constexpr auto fields() {
    return std::tuple{field("rows", &Tiling::rows), field("columns", &Tiling::columns),
                      field("warps_m", &Tiling::warps_m), field("warps_n", &Tiling::warps_n),
                      field("stages", &Tiling::stages)};
  }
  bool operator==(const Tiling& other) const { return equal_fields(*this, other); }
};

Tiling parse_tiling(std::string_view config) {
  Lexer lexer(config);
  return parse_fields<Tiling>(lexer);
}

// How long the blocks of a tiling take, in products of one multiprocessor: waves of whole tiles, which small tiles make
// less efficient because every element is read more often.
double cost(const Tiling& tiling, const MatmulProblem& problem, const Target& target) {
  int64_t sms = target.multiprocessors > 0 ? target.multiprocessors : 132;
  int64_t tiles = ceil_div(problem.rows, tiling.rows) * ceil_div(problem.n, tiling.columns);
  double area = static_cast<double>(tiling.rows * tiling.columns);
  double reads = static_cast<double>(tiling.rows + tiling.columns) / area;
  return static_cast<double>(ceil_div(tiles, sms)) * area * (1 + 32 * reads);
}

// The cheapest of `tilings` that fit into shared memory, at most `count`.
std::vector<std::string> best_tilings(std::span<const Tiling> tilings, const MatmulProblem& problem,
                                      const Target& target, int64_t stage_bytes_per_row, size_t count) {
  std::vector<Tiling> fitting;
  for (const Tiling& tiling : tilings)
    if (tiling.stages * (tiling.rows + tiling.columns) * stage_bytes_per_row <= shared_bytes_limit(target))
      fitting.push_back(tiling);
  std::stable_sort(fitting.begin(), fitting.end(), [&](const Tiling& a, const Tiling& b) {
    return cost(a, problem, target) < cost(b, problem, target);
  });
  fitting.resize(std::min(fitting.size(), count));
  std::vector<std::string> configs;
  for (const Tiling& tiling : fitting) configs.push_back(print_fields(tiling));
  return configs;
}

ModuleLaunch launch_of(std::string_view function, const MatmulProblem& problem, const Tiling& tiling,
                       int64_t shared_bytes) {
  ModuleLaunch launch = matmul_launch(function, problem);
  launch.block = {tiling.warps_m * tiling.warps_n * 32, 1, 1};
  launch.shared_bytes = shared_bytes;
  return launch;
}

void define_tiling(DeviceModule& module, const Tiling& tiling, int64_t shared_bytes) {
  module.defines.push_back(define("TILE_M", tiling.rows));
  module.defines.push_back(define("TILE_N", tiling.columns));
  module.defines.push_back(define("WARPS_M", tiling.warps_m));
  module.defines.push_back(define("WARPS_N", tiling.warps_n));
  module.defines.push_back(define("STAGES", tiling.stages));
  module.defines.push_back(define("SHARED_BYTES", shared_bytes));
}

class MatmulMmaSource final : public TacticSource {
 public:
  std::string_view name() const override { return "cuda.matmul_mma"; }
  std::string_view version() const override {
    static const std::string version = device_code_version("matmul_mma.cuh");
    return version;
  }

  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem& problem,
                                                                const Target& target) const override {
    if (!problem.op.is<Matmul>()) return Unsupported{};
    std::string reason = unless_cuda_matmul(problem, target);
    if (!reason.empty()) return Unsupported{reason};
    MatmulProblem matmul(problem);
    if (size_of(matmul.w) != 2) return Unsupported{"needs 16-bit weights"};
    if (matmul.x != matmul.w && matmul.w == DType::kF16) return Unsupported{"x has a wider range than f16 weights"};
    return best_tilings(kTilings, matmul, target, kStageBytesPerRow, 4);
  }

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    MatmulProblem matmul(problem);
    Tiling tiling = parse_tiling(config);
    int64_t shared_bytes = tiling.stages * (tiling.rows + tiling.columns) * kStageBytesPerRow;
    DeviceModule module = matmul_module("matmul_mma.cuh", matmul, target);
    define_tiling(module, tiling, shared_bytes);
    ModuleLaunch launch = launch_of("matmul_mma", matmul, tiling, shared_bytes);
    launch.grid = {format("ceil(size(0, 0), {}) * {}", tiling.rows, ceil_div(matmul.n, tiling.columns)), "1", "1"};
    CompiledTactic tactic;
    add_matmul_step(tactic, module, std::move(launch), matmul);
    return tactic;
  }

 private:
  static constexpr int64_t kStageBytesPerRow = 128;
  static constexpr Tiling kTilings[] = {
      {128, 256, 2, 4, 3}, {128, 128, 2, 2, 3}, {128, 128, 2, 4, 4}, {64, 128, 2, 2, 4},
      {64, 64, 2, 2, 4},   {32, 64, 2, 2, 5},   {16, 64, 1, 4, 5},
  };
};

class MatmulSource final : public TacticSource {
 public:
  std::string_view name() const override { return "cuda.matmul"; }
  std::string_view version() const override {
    static const std::string version = device_code_version("matmul_fma.cuh");
    return version;
  }

  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem& problem,
                                                                const Target& target) const override {
    if (!problem.op.is<Matmul>()) return Unsupported{};
    std::string reason = unless_cuda_matmul(problem, target);
    if (!reason.empty()) return Unsupported{reason};
    return best_tilings(kTilings, MatmulProblem(problem), target, kStageBytesPerRow, 3);
  }

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    MatmulProblem matmul(problem);
    Tiling tiling = parse_tiling(config);
    int64_t shared_bytes = tiling.stages * (tiling.rows + tiling.columns) * kStageBytesPerRow;
    DeviceModule module = matmul_module("matmul_fma.cuh", matmul, target);
    define_tiling(module, tiling, shared_bytes);
    ModuleLaunch launch = launch_of("matmul_fma", matmul, tiling, shared_bytes);
    launch.grid = {format("{}", ceil_div(matmul.n, tiling.columns)), format("ceil(size(0, 0), {})", tiling.rows), "1"};
    CompiledTactic tactic;
    add_matmul_step(tactic, module, std::move(launch), matmul);
    return tactic;
  }

 private:
  static constexpr int64_t kStageBytesPerRow = 144;
  static constexpr Tiling kTilings[] = {
      {128, 128, 4, 2, 2}, {128, 64, 4, 2, 3}, {64, 64, 2, 2, 3}, {32, 64, 2, 2, 4}, {16, 64, 2, 2, 4},
  };
};

}  // namespace

const TacticSource* cuda_matmul_mma_source() {
  static const MatmulMmaSource source;
  return &source;
}
const TacticSource* cuda_matmul_source() {
  static const MatmulSource source;
  return &source;
}

}  // namespace ingot
