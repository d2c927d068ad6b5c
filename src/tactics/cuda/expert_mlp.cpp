#include "tactics/cuda/expert_mlp.h"

#include "ops/experts.h"
#include "tactics/cuda/op_source.h"

namespace ingot {

namespace {

struct Sizes {
  int64_t hidden, inner, experts, top_k;
  explicit Sizes(const Problem& problem)
      : hidden(problem.inputs[4].shape[1].constant()),
        inner(problem.inputs[4].shape[2].constant()),
        experts(problem.inputs[4].shape[0].constant()),
        top_k(problem.inputs[1].shape[1].constant()) {}
};

// The numbers of the problem's arguments.
enum : int { kX, kIds, kPairWeights, kGateUp, kDown, kY };

std::string unless_experts(const Problem& problem) {
  std::string reason = unless_device_floats(problem, {kX, kGateUp, kDown});
  if (!reason.empty()) return reason;
  if (problem.inputs[kPairWeights].dtype != DType::kF32)
    return format("found {} where f32 is needed", print(problem.inputs[kPairWeights]));
  return problem.inputs[kGateUp].dtype == problem.inputs[kDown].dtype ? "" : "the two weights have different dtypes";
}

std::string function_name(const Problem& problem) {
  return format("act_{}", enum_name(problem.op.as<ExpertMlp>()->function));
}

int64_t aligned(int64_t bytes) { return (bytes + 255) / 256 * 256; }
// The same as text of a launch.
std::string aligned(std::string_view bytes) { return format("ceil({}, 256) * 256", bytes); }

// The shared memory that a block may have on request.
int64_t most_shared_bytes(const Target& target) {
  if (target.cuda_arch == "sm_80") return 163 * 1024;
  return target.cuda_arch.starts_with("sm_8") ? 99 * 1024 : 227 * 1024;
}

constexpr int64_t kInnerBytes = 4;           // at most, per inner value: f32, two f16 or one bf16
constexpr int64_t kSharedBytes = 48 * 1024;  // what it may declare

// --- few tokens -----------------------------------------------------------------------------------------------------

struct RowsTiling {
  int64_t depth = 0, blocks = 0;  // blocks: of gate_up per multiprocessor
  static constexpr auto fields() {
    return std::tuple{field("depth", &RowsTiling::depth), field("blocks", &RowsTiling::blocks)};
  }
};

constexpr int64_t kWarps = 8;  // of expert_mlp_rows.cuh

// Mirrors the shared memory of `down` in expert_mlp_rows.cuh.
int64_t down_shared_bytes(const Sizes& sizes, int64_t chunk) {
  int64_t pairs = chunk * sizes.top_k, active = std::min(sizes.experts, pairs);
  return 12 * sizes.experts + 8 * active + 8 * pairs + 16 + kWarps * 16 * (chunk + 1) * 4;
}
// Tokens whose lists and sums fit; 0: none.
int64_t chunk_for(const Sizes& sizes) {
  for (int64_t chunk = 64; chunk > 0; chunk /= 2)
    if (down_shared_bytes(sizes, chunk) <= kSharedBytes) return chunk;
  return 0;
}

class RowsSource final : public CudaOpSource {
 public:
  RowsSource() : CudaOpSource(ExpertMlp::name, "expert_mlp_rows.cuh", "_rows") {}

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    Lexer lexer(config);
    const auto tiling = parse_fields<RowsTiling>(lexer);
    const Sizes sizes(problem);
    const int64_t chunk = chunk_for(sizes);
    const DeviceModule code = module(target, {
                                                 define("X_TYPE", device_type(problem.inputs[kX].dtype)),
                                                 define("W_TYPE", device_type(problem.inputs[kDown].dtype)),
                                                 define("HIDDEN", sizes.hidden),
                                                 define("INNER", sizes.inner),
                                                 define("EXPERTS", sizes.experts),
                                                 define("TOP_K", sizes.top_k),
                                                 define("FUNCTION", function_name(problem)),
                                                 define("CHUNK", chunk),
                                                 define("DEPTH", tiling.depth),
                                             });
    const std::string chunks = format("ceil(size(0, 0), {})", chunk);
    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    tactic.scratch_bytes = aligned(kInnerBytes * problem.inputs[kIds].elements() * sizes.inner);
    const int64_t ring_bytes = kWarps * 1024 * tiling.depth;
    add_module_step(tactic, code,
                    {.function = "gate_up",
                     .grid = {format("sms * {}", tiling.blocks), chunks},
                     .block = {32 * kWarps},
                     .shared_bytes = ring_bytes,
                     .dependent = true,
                     .arguments = {buffer(kX), buffer(kIds), buffer(kGateUp), "scratch 0", "i32 size(0, 0)"}},
                    every_argument(problem));
    add_module_step(
        tactic, code,
        {.function = "down",
         .grid = {format("{}", (sizes.hidden + 15) / 16), chunks},
         .block = {32 * kWarps},
         .shared_bytes = ring_bytes,
         .dependent = true,
         .arguments = {"scratch 0", buffer(kIds), buffer(kPairWeights), buffer(kDown), buffer(kY), "i32 size(0, 0)"}},
        every_argument(problem));
    return tactic;
  }

 protected:
  std::string refusal(const Problem& problem) const override {
    std::string reason = unless_experts(problem);
    if (!reason.empty()) return reason;
    return chunk_for(Sizes(problem)) > 0 ? "" : "the lists of experts exceed the shared memory";
  }
  std::vector<std::string> configs(const Problem&, const Target& target) const override {
    std::vector<std::string> configs;
    for (const RowsTiling& tiling : {RowsTiling{16, 1}, RowsTiling{8, 2}, RowsTiling{4, 1}})
      if (kSharedBytes + kWarps * 1024 * tiling.depth <= most_shared_bytes(target) && configs.size() < 2)
        configs.push_back(print_fields(tiling));
    return configs;
  }
};

// --- many tokens ----------------------------------------------------------------------------------------------------

struct TilesTiling {
  int64_t rows = 0, columns = 0, warps_m = 0, warps_n = 0, stages = 0;
  static constexpr auto fields() {
    return std::tuple{field("rows", &TilesTiling::rows), field("columns", &TilesTiling::columns),
                      field("warps_m", &TilesTiling::warps_m), field("warps_n", &TilesTiling::warps_n),
                      field("stages", &TilesTiling::stages)};
  }
};

int64_t shared_bytes(const TilesTiling& tiling) { return tiling.stages * (tiling.rows + tiling.columns) * 128; }

// For halves and for f32.
constexpr TilesTiling kHalfTilings[] = {{128, 256, 2, 4, 4}, {128, 128, 2, 4, 3}, {64, 256, 2, 4, 4},
                                        {64, 128, 2, 4, 4},  {32, 128, 1, 8, 5},  {16, 128, 1, 8, 5}};
constexpr TilesTiling kFloatTilings[] = {{128, 128, 2, 4, 3}, {64, 128, 2, 4, 3}, {32, 128, 2, 4, 3}};
constexpr size_t kMostOffers = 4;

class TilesSource final : public CudaOpSource {
 public:
  TilesSource() : CudaOpSource(ExpertMlp::name, "expert_mlp_tiles.cuh", "_tiles") {}

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    Lexer lexer(config);
    const auto tiling = parse_fields<TilesTiling>(lexer);
    const Sizes sizes(problem);
    const DType dtype = problem.inputs[kDown].dtype;
    const DeviceModule code = module(target, {
                                                 define("TYPE", device_type(dtype)),
                                                 define("HIDDEN", sizes.hidden),
                                                 define("INNER", sizes.inner),
                                                 define("EXPERTS", sizes.experts),
                                                 define("TOP_K", sizes.top_k),
                                                 define("FUNCTION", function_name(problem)),
                                                 define("ROWS", tiling.rows),
                                                 define("COLUMNS", tiling.columns),
                                                 define("WARPS_M", tiling.warps_m),
                                                 define("WARPS_N", tiling.warps_n),
                                                 define("STAGES", tiling.stages),
                                             });
    const std::string pairs = format("size(0, 0) * {}", sizes.top_k);
    // Every expert may end in a tile with one pair.
    const std::string tiles =
        format("({} + min({}, {}) * {}) / {}", pairs, pairs, sizes.experts, tiling.rows - 1, tiling.rows);
    const std::string tiles_at = aligned("4 * " + pairs);
    const std::string inner_at = tiles_at + " + " + aligned("12 * (" + tiles + ")");
    const std::string partial_at = inner_at + " + " + aligned(format("{} * {}", kInnerBytes * sizes.inner, pairs));
    const std::string order = "scratch 0", table = "scratch " + tiles_at, inner = "scratch " + inner_at,
                      partial = "scratch " + partial_at;

    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    tactic.scratch_bytes = scratch_bytes(problem, sizes, tiling.rows);
    const std::vector<int> all = every_argument(problem);
    const int64_t threads = 32 * tiling.warps_m * tiling.warps_n;
    const auto column_tiles = [&](int64_t rows) { return format("{}", (rows + tiling.columns - 1) / tiling.columns); };
    add_module_step(tactic, code,
                    {.function = "group",
                     .block = {1024},
                     .dependent = true,
                     .arguments = {buffer(kIds), order, table, "i32 " + pairs, "i32 " + tiles}},
                    all);
    add_module_step(tactic, code,
                    {.function = "gate_up",
                     .grid = {tiles, column_tiles(2 * sizes.inner), "1"},
                     .block = {threads},
                     .shared_bytes = shared_bytes(tiling),
                     .dependent = true,
                     .arguments = {buffer(kX), buffer(kGateUp), order, table, inner}},
                    all);
    add_module_step(tactic, code,
                    {.function = "down",
                     .grid = {tiles, column_tiles(sizes.hidden), "1"},
                     .block = {threads},
                     .shared_bytes = shared_bytes(tiling),
                     .dependent = true,
                     .arguments = {inner, buffer(kDown), buffer(kPairWeights), order, table, partial}},
                    all);
    add_module_step(tactic, code,
                    {.function = "combine",
                     .grid = {format("ceil(size(0, 0) * {}, 256)", sizes.hidden / 4)},
                     .block = {256},
                     .dependent = true,
                     .arguments = {partial, buffer(kY), "i32 size(0, 0)"}},
                    all);
    return tactic;
  }

 protected:
  std::string refusal(const Problem& problem) const override {
    std::string reason = unless_experts(problem);
    if (!reason.empty()) return reason;
    const DType dtype = problem.inputs[kDown].dtype;
    const Sizes sizes(problem);
    if (problem.inputs[kX].dtype != dtype) return "activations and weights have different dtypes";
    if (sizes.hidden * size_of(dtype) % 16 != 0 || sizes.inner * size_of(dtype) % 16 != 0)
      return "rows of weights are not multiples of 16 bytes";
    return sizes.experts <= 1024 ? "" : "there are more than 1024 experts";
  }

  std::vector<std::string> configs(const Problem& problem, const Target& target) const override {
    std::vector<TilesTiling> tilings;
    const auto offer = [&](const TilesTiling& tiling) {
      if (shared_bytes(tiling) <= most_shared_bytes(target)) tilings.push_back(tiling);
    };
    if (problem.inputs[kDown].dtype == DType::kF32)
      std::for_each(std::begin(kFloatTilings), std::end(kFloatTilings), offer);
    else
      std::for_each(std::begin(kHalfTilings), std::end(kHalfTilings), offer);
    // How far tiles are from the pairs of an expert on average.
    const int64_t pairs = std::max<int64_t>(1, problem.inputs[kIds].elements() / Sizes(problem).experts);
    const auto misfit = [&](const TilesTiling& tiling) {
      return std::max(tiling.rows, pairs) / std::min(tiling.rows, pairs);
    };
    std::stable_sort(tilings.begin(), tilings.end(),
                     [&](const TilesTiling& a, const TilesTiling& b) { return misfit(a) < misfit(b); });
    std::vector<std::string> configs;
    for (const TilesTiling& tiling : tilings)
      if (configs.size() < kMostOffers) configs.push_back(print_fields(tiling));
    return configs;
  }

 private:
  // Mirrors the offsets above.
  static int64_t scratch_bytes(const Problem& problem, const Sizes& sizes, int64_t rows) {
    const int64_t pairs = problem.inputs[kIds].elements();
    const int64_t tiles = (pairs + std::min(pairs, sizes.experts) * (rows - 1)) / rows;
    return aligned(4 * pairs) + aligned(12 * tiles) + aligned(kInnerBytes * sizes.inner * pairs) +
           aligned(4 * sizes.hidden * pairs);
  }
};

}  // namespace

const TacticSource* cuda_expert_mlp_rows_source() {
  static const RowsSource source;
  return &source;
}
const TacticSource* cuda_expert_mlp_tiles_source() {
  static const TilesSource source;
  return &source;
}

}  // namespace ingot
