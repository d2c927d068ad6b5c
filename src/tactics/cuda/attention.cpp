#include "tactics/cuda/attention.h"

#include <algorithm>
#include <array>

#include "base/hash.h"
#include "ops/attention.h"
#include "tactics/cuda/cuda_source.h"

namespace ingot {

namespace {

// Scratch has room for the workers of this many multiprocessors; on a larger GPU the others stay idle.
constexpr int64_t kMostMultiprocessors = 192;
constexpr int64_t kMostProductHead = 256;  // what the registers of a thread hold

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The constants of a problem.
struct Form {
  DType q = DType::kF32, state = DType::kF32;
  int64_t heads = 1, kv_heads = 1, page_size = 1, head = 1, v_head = 1, group = 1;
};

Form form_of(const Problem& problem) {
  const TensorType &k = problem.inputs[1], &v = problem.inputs[2];
  Form form{.q = problem.inputs[0].dtype, .state = k.dtype, .heads = problem.op.as<Attention>()->heads};
  form.kv_heads = k.shape[1].constant(), form.page_size = k.shape[2].constant();
  form.head = k.shape[3].constant(), form.v_head = v.shape[3].constant();
  form.group = form.heads / form.kv_heads;
  return form;
}

// How the decodes are made, and what attention_split.cuh has to know of it.
struct Decode {
  std::string_view file;
  int64_t blocks = 1, warps = 4, stages = 0;  // blocks: per multiprocessor
  int64_t tile = 16, part_heads = 1, parts = 1;
  int64_t shared_bytes = 0;
};

// How the other sequences are made.
struct Chunk {
  std::string_view file;
  std::vector<std::string> defines;
  int64_t rows = 0, threads = 0, shared_bytes = 0;
};

struct AttentionTiling {
  // Of decodes: blocks per pair and sequence that form a cluster, or blocks per multiprocessor of attention_split.cuh.
  int64_t cluster = 0, blocks = 0, warps = 0, stages = 0;
  int64_t chunk_warps = 0, chunk_tile = 0, chunk_stages = 0;
  static constexpr auto fields() {
    return std::tuple{
        field("blocks", &AttentionTiling::blocks),         field("warps", &AttentionTiling::warps),
        field("stages", &AttentionTiling::stages),         field("chunk_warps", &AttentionTiling::chunk_warps),
        field("chunk_tile", &AttentionTiling::chunk_tile), field("chunk_stages", &AttentionTiling::chunk_stages)};
  }
};

int64_t shared_bytes_limit(const Target& target) {
  const int arch = std::stoi(target.cuda_arch.substr(3));
  if (arch == 80) return 163 * 1024;
  return arch < 90 || arch >= 120 ? 99 * 1024 : 227 * 1024;
}

// --- the steps
// --------------------------------------------------------------------------------------------------------

std::vector<std::string> common_defines(const Problem& problem) {
  const Attention& op = *problem.op.as<Attention>();
  const Form form = form_of(problem);
  return {define("QT", device_type(form.q)), define("KT", device_type(form.state)),
          define("HEADS", form.heads),       define("KV_HEADS", form.kv_heads),
          define("PAGE", form.page_size),    define("HEAD", form.head),
          define("V_HEAD", form.v_head),     define("SCALE", op.scale),
          define("SOFT_CAP", op.soft_cap),   define("WINDOW", op.window)};
}

DeviceModule module_of(const Problem& problem, const Target& target, std::string_view file,
                       const std::vector<std::string>& more_defines) {
  DeviceModule module{std::string(file), common_defines(problem), target.cuda_arch};
  module.defines.insert(module.defines.end(), more_defines.begin(), more_defines.end());
  return module;
}

// The problem's inputs, then its output.
std::vector<int> all_buffers() { return {0, 1, 2, 3, 4, 5, 6, 7, 8}; }
constexpr std::string_view kSequences = "i32 size(4, 0)";

std::vector<std::string> buffer_arguments(int first, int last) {
  std::vector<std::string> arguments;
  for (int i = first; i <= last; ++i) arguments.push_back(format("buf {}", i));
  return arguments;
}

int64_t partial_bytes(const Form& form, const Decode& decode) {
  return 2 * decode.warps * decode.blocks * kMostMultiprocessors * decode.part_heads * form.v_head * 4;
}

// Two launches: the workers, and what adds up their parts.
void add_decode_steps(CompiledTactic& tactic, const Problem& problem, const Target& target, const Decode& decode,
                      const DeviceModule& module) {
  const Form form = form_of(problem);
  const std::string blocks = format("{} * min(sms, {})", decode.blocks, kMostMultiprocessors);
  const std::string partial_weights = format("scratch {}", partial_bytes(form, decode));
  ModuleLaunch launch{.function = "attention_decode", .grid = {blocks, "1", "1"}, .dependent = true};
  launch.block = {32 * decode.warps, 1, 1};
  launch.shared_bytes = decode.shared_bytes;
  launch.arguments = buffer_arguments(0, 8);
  for (std::string_view last : {std::string_view("scratch 0"), std::string_view(partial_weights), kSequences})
    launch.arguments.emplace_back(last);
  add_module_step(tactic, module, launch, all_buffers());

  ModuleLaunch combine{.function = "attention_combine", .dependent = true};
  combine.grid = {"size(4, 0)", format("{}", form.heads), "1"};
  combine.block = {256, 1, 1};
  combine.arguments = {"scratch 0", partial_weights};
  for (const std::string& argument : buffer_arguments(3, 8)) combine.arguments.push_back(argument);
  combine.arguments.emplace_back(kSequences);
  combine.arguments.push_back(format("i32 {} * {}", decode.warps, blocks));
  add_module_step(tactic,
                  module_of(problem, target, "attention_combine.cuh",
                            {define("TILE_SLOTS", decode.tile), define("PARTS", decode.parts),
                             define("PART_HEADS", decode.part_heads)}),
                  combine, all_buffers());
  tactic.scratch_bytes =
      partial_bytes(form, decode) + 2 * decode.warps * decode.blocks * kMostMultiprocessors * decode.part_heads * 8;
}

// Starts nothing when all sequences are decodes.
void add_chunk_step(CompiledTactic& tactic, const Problem& problem, const Chunk& chunk, const DeviceModule& module) {
  const Form form = form_of(problem);
  ModuleLaunch launch{.function = "attention_chunk", .dependent = true};
  launch.grid = {format("(ceil(size(0, 0) * {}, {}) + size(4, 0)) * {} * min(1, max(0, size(0, 0) - size(4, 0)))",
                        form.group, chunk.rows, form.kv_heads),
                 "1", "1"};
  launch.block = {chunk.threads, 1, 1};
  launch.shared_bytes = chunk.shared_bytes;
  launch.arguments = buffer_arguments(0, 8);
  launch.arguments.emplace_back(kSequences);
  add_module_step(tactic, module, launch, all_buffers());
}

// --- tensor cores
// -----------------------------------------------------------------------------------------------------

// How attention_decode.cuh shares out the query heads of a kv head.
Decode product_decode(const Form& form, const AttentionTiling& tiling) {
  Decode decode{.file = "attention_decode.cuh", .blocks = tiling.blocks, .warps = tiling.warps};
  decode.stages = tiling.stages;
  const int64_t columns = form.group > 8 && std::max(form.head, form.v_head) <= 128 ? 16 : 8;
  decode.part_heads = std::min(form.group, columns);
  decode.parts = ceil_div(form.group, columns);
  decode.shared_bytes = tiling.warps * tiling.stages * decode.tile * (2 * form.head + 16 + 2 * form.v_head + 16);
  return decode;
}

Chunk mma_chunk(const Form& form, const AttentionTiling& tiling) {
  const int64_t k_row = 2 * form.head + 16, v_row = 2 * form.v_head + 16, rows = 16 * tiling.chunk_warps;
  return {.file = "attention_mma.cuh",
          .defines = {define("CHUNK_WARPS", tiling.chunk_warps)},
          .rows = rows,
          .threads = 32 * tiling.chunk_warps,
          .shared_bytes = 2 * 64 * (k_row + v_row) + (form.head > 128 ? rows * k_row : 0)};
}

Chunk sm90_chunk(const Form& form, const AttentionTiling& tiling) {
  const int64_t k_row = 128 * ceil_div(form.head, 64), v_row = 128 * ceil_div(form.v_head, 64);
  const int64_t rows = 16 * tiling.chunk_warps, slots = tiling.chunk_stages * tiling.chunk_tile;
  return {.file = "attention_sm90.cuh",
          .defines = {define("CHUNK_GROUPS", tiling.chunk_warps / 4), define("CHUNK_TILE", tiling.chunk_tile),
                      define("CHUNK_STAGES", tiling.chunk_stages)},
          .rows = rows,
          .threads = 32 * (tiling.chunk_warps + 4),
          .shared_bytes = 1024 + rows * k_row + slots * (k_row + v_row)};
}

std::string unless_attention(const Problem& problem, const Target& target) {
  std::string reason = unless_cuda(target);
  if (reason.empty()) reason = unless_device_floats(problem, {0, 1, 2});
  if (reason.empty() && problem.inputs[1].dtype != problem.inputs[2].dtype)
    reason = format("found a k state {} and a v state {}: both must have one dtype", print(problem.inputs[1]),
                    print(problem.inputs[2]));
  return reason;
}

std::string unless_products(const Problem& problem) {
  const Form form = form_of(problem);
  if (form.state == DType::kF32) return "needs bf16 or f16 states";
  for (int64_t head : {form.head, form.v_head})
    if (head % 16 != 0 || head > kMostProductHead)
      return format("found heads of {}: needs multiples of 16 up to {}", head, kMostProductHead);
  return "";
}

std::string source_version(std::initializer_list<std::string_view> files) {
  Hasher hasher;
  for (std::string_view file : files) hasher.add(device_code_version(file));
  return hex64(hasher.digest());
}

class ProductSource final : public TacticSource {
 public:
  explicit ProductSource(bool hopper)
      : hopper_(hopper),
        version_(source_version(
            {"attention_decode.cuh", "attention_combine.cuh", hopper ? "attention_sm90.cuh" : "attention_mma.cuh"})) {}

  std::string_view name() const override { return hopper_ ? "cuda.attention_sm90" : "cuda.attention_mma"; }
  std::string_view version() const override { return version_; }

  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem& problem,
                                                                const Target& target) const override {
    if (!problem.op.is<Attention>()) return Unsupported{};
    std::string reason = unless_attention(problem, target);
    if (reason.empty() && hopper_) reason = unless_hopper(target);
    if (reason.empty()) reason = unless_products(problem);
    if (!reason.empty()) return Unsupported{reason};
    const Form form = form_of(problem);
    const int64_t limit = shared_bytes_limit(target);
    std::vector<std::string> configs;
    for (const AttentionTiling& decode : decode_tilings(form, limit))
      for (const AttentionTiling& chunk : chunk_tilings(form, limit)) {
        AttentionTiling tiling = chunk;
        tiling.blocks = decode.blocks, tiling.warps = decode.warps, tiling.stages = decode.stages;
        configs.push_back(print_fields(tiling));
      }
    if (configs.empty()) return Unsupported{"needs more shared memory than a block may have"};
    return configs;
  }

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    Lexer lexer(config);
    const auto tiling = parse_fields<AttentionTiling>(lexer);
    const Form form = form_of(problem);
    const Decode decode = product_decode(form, tiling);
    const Chunk chunk = hopper_ ? sm90_chunk(form, tiling) : mma_chunk(form, tiling);
    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    add_decode_steps(tactic, problem, target, decode,
                     module_of(problem, target, decode.file,
                               {define("DECODE_WARPS", decode.warps), define("DECODE_STAGES", decode.stages)}));
    add_chunk_step(tactic, problem, chunk, module_of(problem, target, chunk.file, chunk.defines));
    return tactic;
  }

 private:
  // Enough bytes under way: about 64 KB on every multiprocessor, beside the tiles in use.
  static std::vector<AttentionTiling> decode_tilings(const Form& form, int64_t limit) {
    std::vector<AttentionTiling> tilings;
    for (auto [blocks, warps, stages] : std::array<std::array<int64_t, 3>, 3>{{{2, 4, 3}, {1, 4, 3}, {1, 4, 2}}}) {
      AttentionTiling tiling{.blocks = blocks, .warps = warps, .stages = stages};
      if (tilings.empty() && blocks * (product_decode(form, tiling).shared_bytes + 1024) <= limit + 1024)
        tilings.push_back(tiling);
    }
    return tilings;
  }

  std::vector<AttentionTiling> chunk_tilings(const Form& form, int64_t limit) const {
    std::vector<AttentionTiling> offers, tilings;
    const bool large = std::max(form.head, form.v_head) > 128;
    if (hopper_)
      offers = {{.chunk_warps = 8, .chunk_tile = large ? 64 : 128, .chunk_stages = 2}};
    else
      offers = {{.chunk_warps = 4}};
    for (const AttentionTiling& offer : offers)
      if ((hopper_ ? sm90_chunk(form, offer) : mma_chunk(form, offer)).shared_bytes <= limit) tilings.push_back(offer);
    return tilings;
  }

  bool hopper_;
  std::string version_;
};

// --- everything
// -------------------------------------------------------------------------------------------------------

class GeneralSource final : public TacticSource {
 public:
  std::string_view name() const override { return "cuda.attention"; }
  std::string_view version() const override { return version_; }

  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem& problem,
                                                                const Target& target) const override {
    if (!problem.op.is<Attention>()) return Unsupported{};
    if (std::string reason = unless_attention(problem, target); !reason.empty()) return Unsupported{reason};
    const Form form = form_of(problem);
    AttentionTiling tiling{.blocks = 4, .warps = 4, .chunk_warps = 8};
    const int64_t limit = shared_bytes_limit(target);
    while (tiling.chunk_warps > 0 && chunk_of(form, tiling).shared_bytes > limit) tiling.chunk_warps /= 2;
    if (tiling.chunk_warps == 0 || decode_of(form, tiling).shared_bytes > limit)
      return Unsupported{format("found heads of {} and {}: too much for shared memory", form.head, form.v_head)};
    return std::vector<std::string>{print_fields(tiling)};
  }

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    Lexer lexer(config);
    const auto tiling = parse_fields<AttentionTiling>(lexer);
    const Form form = form_of(problem);
    const Decode decode = decode_of(form, tiling);
    const DeviceModule module =
        module_of(problem, target, "attention.cuh",
                  {define("DECODE_WARPS", tiling.warps), define("PART_HEADS", decode.part_heads),
                   define("PARTS", decode.parts), define("CHUNK_WARPS", tiling.chunk_warps)});
    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    add_decode_steps(tactic, problem, target, decode, module);
    add_chunk_step(tactic, problem, chunk_of(form, tiling), module);
    return tactic;
  }

 private:
  static Decode decode_of(const Form& form, const AttentionTiling& tiling) {
    Decode decode{.blocks = tiling.blocks, .warps = tiling.warps, .tile = 32};
    decode.part_heads = std::min<int64_t>(form.group, 8);
    decode.parts = ceil_div(form.group, decode.part_heads);
    decode.shared_bytes = tiling.warps * decode.part_heads * form.head * 4;
    return decode;
  }
  static Chunk chunk_of(const Form& form, const AttentionTiling& tiling) {
    const int64_t rows = 8 * tiling.chunk_warps;
    return {.rows = rows,
            .threads = 32 * tiling.chunk_warps,
            .shared_bytes = 4 * (rows * (form.head + 32) + 32 * ((form.head | 1) + form.v_head))};
  }

  std::string version_ = source_version({"attention.cuh", "attention_combine.cuh"});
};

}  // namespace

const TacticSource* cuda_attention_sm90_source() {
  static const ProductSource source(true);
  return &source;
}

const TacticSource* cuda_attention_mma_source() {
  static const ProductSource source(false);
  return &source;
}

const TacticSource* cuda_attention_source() {
  static const GeneralSource source;
  return &source;
}

}  // namespace ingot
