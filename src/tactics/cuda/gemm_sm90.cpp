#include "tactics/cuda/gemm_sm90.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/fields.h"
#include "ops/matmul.h"
#include "tactics/cuda/matmul_problem.h"

namespace ingot {

namespace {

constexpr std::string_view kFile = "gemm_sm90.cuh";
constexpr int64_t kStep = 64;                 // along k
constexpr int64_t kSharedBytes = 228 * 1024;  // of a multiprocessor; every block takes 1 KiB besides its own
constexpr int64_t kMostStages = 9;
constexpr size_t kMostOffers = 8;

// How the work is cut: a block's tile of y; the cluster that shares x (columns), w (rows), or adds up parts of k; and
// how many blocks fit a multiprocessor. Two: the weights of this product are already loaded while the kernel in front
// ends.
struct GemmTiling {
  int64_t rows = 128, columns = 128;
  int64_t cluster_rows = 1, cluster_columns = 1, cluster_k = 1;
  int64_t resident = 1;
  static constexpr auto fields() {
    return std::tuple{field("rows", &GemmTiling::rows),
                      field("columns", &GemmTiling::columns),
                      field("cluster_rows", &GemmTiling::cluster_rows),
                      field("cluster_columns", &GemmTiling::cluster_columns),
                      field("cluster_k", &GemmTiling::cluster_k),
                      field("resident", &GemmTiling::resident)};
  }
  int64_t warpgroups() const { return rows > 192 ? rows / 128 : rows / 64; }
  int64_t cluster() const { return cluster_rows * cluster_columns * cluster_k; }
};

// Every cut that is offered somewhere; of equal ones the first.
constexpr GemmTiling kTilings[] = {
    {64, 32},
    {64, 48},
    {64, 64, 1, 1, 2},
    {64, 96, 1, 1, 2},
    {64, 128, 1, 1, 2},
    {64, 128},
    {64, 224},
    {64, 256},
    {128, 48},
    {128, 64, 1, 1, 2},
    {128, 96, 1, 1, 2},
    {128, 96, 2},
    {128, 128, 2},
    {128, 128},
    {128, 128, 1, 2},
    {128, 128, 1, 1, 2},
    {128, 192, 2},
    {128, 224, 2},
    {128, 224},
    {128, 256, 2},
    {128, 256},
    {192, 128},
    {192, 128, 2},
    {256, 128, 2},
    {64, 32, 1, 1, 1, 2},
    {64, 48, 1, 1, 1, 2},
    {64, 64, 1, 1, 2, 2},
    {64, 96, 1, 1, 2, 2},
    {64, 128, 1, 1, 1, 2},
    {128, 48, 1, 1, 1, 2},
    {128, 64, 1, 1, 2, 2},
};

// Mirrors the kernel's shared memory but for the ring.
int64_t shared_besides_stages(const GemmTiling& t, const MatmulProblem& s) {
  int64_t columns = t.columns / t.cluster_k, stored = s.gated ? columns / 2 : columns;
  int64_t out_columns = stored % 64 == 0 ? 64 : stored % 32 == 0 ? 32 : 16;
  int64_t out = size_of(s.y) == 2 ? t.warpgroups() * 64 * out_columns * 2 : 0;
  int64_t parts = (t.cluster_k - 1) * t.rows * columns * 4;
  int64_t barriers = (2 * kMostStages + 2) * 8, alignment = 1024;
  return out + parts + barriers + alignment;
}
int64_t stage_bytes(const GemmTiling& t) { return (t.rows + t.columns) * kStep * 2; }
int64_t stages_of(const GemmTiling& t, const MatmulProblem& s) {
  const int64_t bytes = kSharedBytes / t.resident - 1024;
  return std::min((bytes - shared_besides_stages(t, s)) / stage_bytes(t), kMostStages);
}

// Rows of x and w that a block loads itself in a step.
int64_t loaded_rows(const GemmTiling& t) { return t.rows / t.cluster_columns + t.columns / t.cluster_rows; }

int64_t waves_of(const GemmTiling& t, const MatmulProblem& s, int64_t multiprocessors) {
  const int64_t tiles = ceil_div(s.rows, t.rows * t.cluster_rows) * ceil_div(s.n, t.columns * t.cluster_columns);
  return ceil_div(tiles, std::max<int64_t>(1, multiprocessors / t.cluster()));
}

// Small tiles are there to give every multiprocessor some; with much work they only move more.
bool suits(const GemmTiling& t, const MatmulProblem& s, int64_t multiprocessors) {
  if (t.columns % ((s.gated ? 32 : 16) * t.cluster_k) != 0) return false;
  if (ceil_div(s.k, kStep) < t.cluster_k || (t.rows > 64 && t.rows >= 2 * s.rows)) return false;
  return t.rows * t.columns >= 128 * 128 || waves_of(t, s, multiprocessors) <= 16;
}

// Roughly how long the blocks of a cut are busy, in microseconds: only the order matters, and what is the same for all
// (launch, memory) is left out. The figures fit measurements of an H200.
double estimate(const GemmTiling& t, const MatmulProblem& s, int64_t multiprocessors) {
  const int64_t steps = ceil_div(ceil_div(s.k, kStep), t.cluster_k);
  // A single warpgroup does not keep the matrix unit busy.
  const double multiply_us = static_cast<double>(t.rows * t.columns * kStep * 2) / 6.2e6 * (t.rows == 64 ? 1.6 : 1.0);
  const double load_us = 0.0085 + static_cast<double>(loaded_rows(t) * kStep * 2) / 96e3;
  const double tile_us = static_cast<double>(steps) * std::max(multiply_us, load_us) + 0.1;
  return static_cast<double>(waves_of(t, s, multiprocessors)) * tile_us;
}

class GemmSm90Source final : public TacticSource {
 public:
  std::string_view name() const override { return "cuda.gemm_sm90"; }
  std::string_view version() const override {
    static const std::string version = device_code_version(kFile);
    return version;
  }

  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem& problem,
                                                                const Target& target) const override {
    if (!problem.op.is<Matmul>()) return Unsupported{};
    if (std::string reason = refusal(problem, target); !reason.empty()) return Unsupported{reason};
    const MatmulProblem sizes(problem);
    const int64_t multiprocessors = target.multiprocessors > 0 ? target.multiprocessors : 132;
    std::vector<std::pair<double, const GemmTiling*>> order;
    for (const GemmTiling& tiling : kTilings)
      if (suits(tiling, sizes, multiprocessors)) order.push_back({estimate(tiling, sizes, multiprocessors), &tiling});
    std::stable_sort(order.begin(), order.end(), [](auto& a, auto& b) { return a.first < b.first; });
    std::vector<std::string> configs;
    for (size_t i = 0; i < std::min(order.size(), kMostOffers); ++i) configs.push_back(print_fields(*order[i].second));
    return configs;
  }

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    Lexer lexer(config);
    const auto tiling = parse_fields<GemmTiling>(lexer);
    const Matmul& op = *problem.op.as<Matmul>();
    const DType dtype = problem.inputs[0].dtype;
    const MatmulProblem sizes(problem);
    const int64_t stages = stages_of(tiling, sizes);
    DeviceModule module{
        std::string(kFile),
        {define("T", device_type(dtype)), define("Y", device_type(problem.outputs[0].dtype)),
         define("TILE_M", tiling.rows), define("WARPGROUPS", tiling.warpgroups()), define("RESIDENT", tiling.resident),
         define("TILE_N", tiling.columns), define("STAGES", stages), define("CLUSTER_M", tiling.cluster_rows),
         define("CLUSTER_N", tiling.cluster_columns), define("CLUSTER_K", tiling.cluster_k),
         define("FUNCTION", format("act_{}", enum_name(op.function))), define("GATED", int64_t{op.gated}),
         define("RESIDUAL", int64_t{op.residual})},
        target.cuda_arch};
    if (op.bias) module.defines.push_back(define("BIAS", device_type(problem.inputs[2].dtype)));
    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    std::vector<int> arguments(problem.inputs.size() + 1);
    for (size_t i = 0; i < arguments.size(); ++i) arguments[i] = static_cast<int>(i);
    ModuleLaunch start = launch(op, dtype, tiling, arguments.back());
    start.shared_bytes = shared_besides_stages(tiling, sizes) + stages * stage_bytes(tiling);
    add_module_step(tactic, module, std::move(start), arguments);
    return tactic;
  }

 private:
  static ModuleLaunch launch(const Matmul& op, DType dtype, const GemmTiling& t, int y) {
    const std::string rows = "size(0, 0)", n = "size(1, 0)", k = "size(0, 1)";
    const auto map = [&](int buffer, const std::string& height, int64_t box) {
      return format("map {} dtype={} dims=[{}, {}] strides=[{} * 2] box=[{}, {}] swizzle=128", buffer, enum_name(dtype),
                    k, height, k, kStep, box);
    };
    const std::string gated_map =
        format("map 1 dtype={} dims=[{}, {} / 2, 2] strides=[{} * 2, {} * {}] box=[{}, {}, 2] swizzle=128",
               enum_name(dtype), k, n, k, n, k, kStep, t.columns / (2 * t.cluster_rows * t.cluster_k));
    const std::string tiles =
        format("ceil({}, {}) * ceil({}, {})", rows, t.rows * t.cluster_rows, n, t.columns * t.cluster_columns);
    ModuleLaunch launch{.function = "gemm"};
    launch.grid[0] = t.cluster() == 1 ? format("min({}, sms)", tiles)
                                      : format("min({}, sms / {}) * {}", tiles, t.cluster(), t.cluster());
    launch.block[0] = 128 * (t.warpgroups() + 1);
    launch.cluster = t.cluster();
    launch.dependent = true;
    launch.arguments = {map(0, rows, t.rows / t.cluster_columns),
                        op.gated ? gated_map : map(1, n, t.columns / t.cluster_rows),
                        op.bias ? "buf 2" : "i64 0",
                        op.residual ? format("buf {}", y - 1) : "i64 0",
                        format("buf {}", y),
                        "i32 " + rows,
                        "i32 " + n,
                        "i32 " + k};
    return launch;
  }

  static std::string refusal(const Problem& problem, const Target& target) {
    if (std::string reason = unless_hopper(target); !reason.empty()) return reason;
    const DType dtype = problem.inputs[0].dtype;
    if ((dtype != DType::kBF16 && dtype != DType::kF16) || problem.inputs[1].dtype != dtype)
      return format("found {} and {} where bf16 twice or f16 twice is needed", print(problem.inputs[0]),
                    print(problem.inputs[1]));
    if (std::string reason = unless_device_float(problem.outputs[0]); !reason.empty()) return reason;
    const MatmulProblem sizes(problem);
    if (sizes.k == 0 || sizes.k % 8 != 0) return format("k is {}: needs a multiple of 8", sizes.k);
    if (sizes.rows < 16) return format("{} rows: needs 16", sizes.rows);
    return "";
  }
};

}  // namespace

const TacticSource* gemm_sm90_source() {
  static const GemmSm90Source source;
  return &source;
}

}  // namespace ingot
