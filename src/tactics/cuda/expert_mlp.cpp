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

// Why expert_mlp_tiles.cuh cannot solve the problem, or "".
std::string unless_tiles(const Problem& problem) {
  std::string reason = unless_experts(problem);
  if (!reason.empty()) return reason;
  const DType dtype = problem.inputs[kDown].dtype;
  const Sizes sizes(problem);
  if (problem.inputs[kX].dtype != dtype) return "activations and weights have different dtypes";
  if (sizes.hidden * size_of(dtype) % 16 != 0 || sizes.inner * size_of(dtype) % 16 != 0)
    return "rows of weights are not multiples of 16 bytes";
  return sizes.experts <= 1024 ? "" : "there are more than 1024 experts";
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

constexpr int64_t kDeclaredBytes = 48 * 1024;  // what it may declare

// --- few tokens -----------------------------------------------------------------------------------------------------

// Batches in the ring of a warp, and blocks of gate_up per multiprocessor.
struct RowsTiling {
  int64_t up_depth = 0, down_depth = 0, blocks = 0;
  static constexpr auto fields() {
    return std::tuple{field("up_depth", &RowsTiling::up_depth), field("down_depth", &RowsTiling::down_depth),
                      field("blocks", &RowsTiling::blocks)};
  }
};
constexpr RowsTiling kRowsTilings[] = {{2, 2, 2}, {4, 2, 1}, {1, 1, 1}};

// Mirror expert_mlp_rows.cuh.
constexpr int64_t kWarps = 8, kMostPairs = 256, kMostChunk = 16, kBatchBytes = 4096;

int64_t ring_bytes(int64_t depth) { return kWarps * kBatchBytes * depth; }
// Tokens that are listed at once; 0: none.
int64_t chunk_for(const Sizes& sizes) { return std::min(kMostChunk, kMostPairs / sizes.top_k); }

// What `down` declares.
int64_t listed_bytes(const Sizes& sizes) {
  const int64_t chunk = chunk_for(sizes), pairs = chunk * sizes.top_k;
  return 8 * sizes.experts + 8 * std::min(sizes.experts, pairs) + 8 * pairs + 128 + kWarps * 16 * (chunk + 1) * 4;
}

class RowsSource final : public CudaOpSource {
 public:
  RowsSource() : CudaOpSource(ExpertMlp::name, "expert_mlp_rows.cuh", "_rows") {}

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    Lexer lexer(config);
    const auto tiling = parse_fields<RowsTiling>(lexer);
    const Sizes sizes(problem);
    const DeviceModule code = module(target, {
                                                 define("X_TYPE", device_type(problem.inputs[kX].dtype)),
                                                 define("W_TYPE", device_type(problem.inputs[kDown].dtype)),
                                                 define("HIDDEN", sizes.hidden),
                                                 define("INNER", sizes.inner),
                                                 define("EXPERTS", sizes.experts),
                                                 define("TOP_K", sizes.top_k),
                                                 define("FUNCTION", function_name(problem)),
                                                 define("CHUNK", chunk_for(sizes)),
                                                 define("UP_DEPTH", tiling.up_depth),
                                                 define("DOWN_DEPTH", tiling.down_depth),
                                             });
    const std::string chunks = format("ceil(size(0, 0), {})", chunk_for(sizes));
    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    tactic.scratch_bytes = aligned(4 * problem.inputs[kIds].elements() * sizes.inner);
    add_module_step(tactic, code,
                    {.function = "gate_up",
                     .grid = {format("sms * {}", tiling.blocks), chunks},
                     .block = {32 * kWarps},
                     .shared_bytes = ring_bytes(tiling.up_depth),
                     .dependent = true,
                     .arguments = {buffer(kX), buffer(kIds), buffer(kGateUp), "scratch 0", "i32 size(0, 0)"}},
                    every_argument(problem));
    add_module_step(
        tactic, code,
        {.function = "down",
         .grid = {format("{}", (sizes.hidden + 15) / 16), chunks},
         .block = {32 * kWarps},
         .shared_bytes = ring_bytes(tiling.down_depth),
         .dependent = true,
         .arguments = {"scratch 0", buffer(kIds), buffer(kPairWeights), buffer(kDown), buffer(kY), "i32 size(0, 0)"}},
        every_argument(problem));
    return tactic;
  }

 protected:
  std::string refusal(const Problem& problem) const override {
    std::string reason = unless_experts(problem);
    if (!reason.empty()) return reason;
    const Sizes sizes(problem);
    if (chunk_for(sizes) == 0 || listed_bytes(sizes) > kDeclaredBytes) return "the lists of experts are too long";
    const int64_t tokens = problem.inputs[kIds].shape[0].constant();
    return tokens > kMostTokens && unless_tiles(problem).empty() ? "tiles are faster for as many tokens" : "";
  }
  std::vector<std::string> configs(const Problem& problem, const Target& target) const override {
    const int64_t listed = listed_bytes(Sizes(problem));
    std::vector<std::string> configs;
    for (const RowsTiling& tiling : kRowsTilings)
      if (configs.size() < 2 && listed + ring_bytes(tiling.up_depth) <= most_shared_bytes(target))
        configs.push_back(print_fields(tiling));
    return configs;
  }

 private:
  static constexpr int64_t kMostTokens = 16;
};

// --- many tokens ----------------------------------------------------------------------------------------------------

struct TilesTiling {
  int64_t rows = 0, columns = 0, warps_m = 0, warps_n = 0, stages = 0;
  bool warpgroups = false;
  static constexpr auto fields() {
    return std::tuple{field("rows", &TilesTiling::rows),       field("columns", &TilesTiling::columns),
                      field("warps_m", &TilesTiling::warps_m), field("warps_n", &TilesTiling::warps_n),
                      field("stages", &TilesTiling::stages),   field("warpgroups", &TilesTiling::warpgroups)};
  }
};

int64_t shared_bytes(const TilesTiling& tiling) { return tiling.stages * (tiling.rows + tiling.columns) * 128; }

constexpr TilesTiling kHopperTilings[] = {
    {128, 256, 8, 1, 4, true}, {64, 128, 4, 2, 4, true}, {32, 128, 1, 8, 5}, {16, 128, 1, 8, 5}};
constexpr TilesTiling kHalfTilings[] = {
    {128, 128, 2, 4, 3}, {64, 128, 2, 4, 4}, {32, 128, 1, 8, 5}, {16, 128, 1, 8, 5}};
constexpr TilesTiling kFloatTilings[] = {{128, 128, 2, 4, 3}, {64, 128, 2, 4, 3}, {32, 128, 2, 4, 3}};

std::span<const TilesTiling> tilings_for(DType dtype, const Target& target) {
  if (dtype == DType::kF32) return kFloatTilings;
  return unless_hopper(target).empty() ? std::span<const TilesTiling>(kHopperTilings) : kHalfTilings;
}

// Bytes of an inner value of expert_mlp_tiles.cuh: two f16, or one of any other.
int64_t inner_bytes(DType dtype) { return dtype == DType::kBF16 ? 2 : 4; }

// What a launch with `rows` pairs in a tile is told about sizes, as text; the places are in the scratch memory.
struct TilesSizes {
  TilesSizes(const Sizes& sizes, DType dtype, int64_t rows)
      : pairs(format("size(0, 0) * {}", sizes.top_k)),
        // Every expert may end in a tile with one pair.
        tiles(format("({} + min({}, {}) * {}) / {}", pairs, pairs, sizes.experts, rows - 1, rows)),
        table_at(aligned("4 * " + pairs)),
        inner_at(format("{} + {}", table_at, aligned(format("12 * ({})", tiles)))),
        partial_at(format("{} + {}", inner_at, aligned(format("{} * {}", inner_bytes(dtype) * sizes.inner, pairs)))) {}
  std::string pairs, tiles, table_at, inner_at, partial_at;
};

// The same scratch memory as a number of bytes.
int64_t tiles_scratch_bytes(const Problem& problem, const Sizes& sizes, int64_t rows) {
  const int64_t pairs = problem.inputs[kIds].elements();
  const int64_t tiles = (pairs + std::min(pairs, sizes.experts) * (rows - 1)) / rows;
  return aligned(4 * pairs) + aligned(12 * tiles) +
         aligned(inner_bytes(problem.inputs[kDown].dtype) * sizes.inner * pairs) + aligned(4 * sizes.hidden * pairs);
}

class TilesSource final : public CudaOpSource {
 public:
  TilesSource() : CudaOpSource(ExpertMlp::name, "expert_mlp_tiles.cuh", "_tiles") {}

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    Lexer lexer(config);
    const auto tiling = parse_fields<TilesTiling>(lexer);
    const Sizes sizes(problem);
    const DeviceModule code = module(target, defines(problem, sizes, tiling));
    const TilesSizes at(sizes, problem.inputs[kDown].dtype, tiling.rows);
    const std::string order = "scratch 0", table = "scratch " + at.table_at, inner = "scratch " + at.inner_at,
                      partial = "scratch " + at.partial_at;
    const int64_t threads = 32 * tiling.warps_m * tiling.warps_n;
    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    tactic.scratch_bytes = tiles_scratch_bytes(problem, sizes, tiling.rows);
    const auto add = [&](ModuleLaunch launch) {
      launch.dependent = true;
      add_module_step(tactic, code, std::move(launch), every_argument(problem));
    };
    const auto multiply = [&](std::string function, int64_t columns, std::vector<std::string> arguments) {
      add({.function = std::move(function),
           .grid = {at.tiles, format("{}", (columns + tiling.columns - 1) / tiling.columns)},
           .block = {threads},
           .shared_bytes = shared_bytes(tiling),
           .arguments = std::move(arguments)});
    };
    add({.function = "group",
         .block = {1024},
         .arguments = {buffer(kIds), order, table, "i32 " + at.pairs, "i32 " + at.tiles}});
    multiply("gate_up", 2 * sizes.inner, {buffer(kX), buffer(kGateUp), order, table, inner});
    multiply("down", sizes.hidden, {inner, buffer(kDown), buffer(kPairWeights), order, table, partial});
    add({.function = "combine",
         .grid = {format("ceil(size(0, 0) * {}, 256)", sizes.hidden / 4)},
         .block = {256},
         .arguments = {partial, buffer(kY), "i32 size(0, 0)"}});
    return tactic;
  }

 protected:
  std::string refusal(const Problem& problem) const override { return unless_tiles(problem); }

  std::vector<std::string> configs(const Problem& problem, const Target& target) const override {
    std::vector<TilesTiling> tilings;
    for (const TilesTiling& tiling : tilings_for(problem.inputs[kDown].dtype, target))
      if (shared_bytes(tiling) <= most_shared_bytes(target)) tilings.push_back(tiling);
    // How far tiles are from the pairs of an expert on average.
    const int64_t pairs = std::max<int64_t>(1, problem.inputs[kIds].elements() / Sizes(problem).experts);
    const auto misfit = [&](const TilesTiling& tiling) {
      return std::max(tiling.rows, pairs) / std::min(tiling.rows, pairs);
    };
    std::stable_sort(tilings.begin(), tilings.end(),
                     [&](const TilesTiling& a, const TilesTiling& b) { return misfit(a) < misfit(b); });
    std::vector<std::string> configs;
    for (const TilesTiling& tiling : tilings)
      if (configs.empty() || misfit(tiling) <= 2 * misfit(tilings[0])) configs.push_back(print_fields(tiling));
    return configs;
  }

 private:
  static std::vector<std::string> defines(const Problem& problem, const Sizes& sizes, const TilesTiling& tiling) {
    return {
        define("TYPE", device_type(problem.inputs[kDown].dtype)),
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
        define("WARPGROUPS", int64_t{tiling.warpgroups}),
    };
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
