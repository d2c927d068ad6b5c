#include "tactics/cuda/attention.h"

#include <algorithm>
#include <numeric>

#include "base/hash.h"
#include "ops/attention.h"
#include "tactics/cuda/cuda_source.h"
#include "tactics/cuda/matmul_problem.h"

namespace ingot {

namespace {

constexpr int64_t kMostProductHead = 256;              // what the registers of a thread hold
constexpr int64_t kMostCluster = 8, kMostSplits = 32;  // blocks that share a pair

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

// How the decodes are made: attention_parts.cuh.
struct Decode {
  std::string_view file;
  int64_t part_heads = 1, parts = 1, splits = 1, warps = 1;
  bool clustered = false;
  std::vector<std::string> defines;
  int64_t shared_bytes = 0;
};

// How the other sequences are made.
struct Chunk {
  std::string_view file;
  std::vector<std::string> defines;
  int64_t rows = 0, threads = 0, shared_bytes = 0;
  int64_t run = 0;  // positions that one copy of a tensor map brings; 0: states are given as addresses
};

struct AttentionTiling {
  int64_t splits = 1, warps = 8, stages = 0;  // of decodes
  bool clustered = false;
  int64_t chunk_warps = 8, chunk_tile = 0, chunk_stages = 0;
  static constexpr auto fields() {
    return std::tuple{field("splits", &AttentionTiling::splits),
                      field("warps", &AttentionTiling::warps),
                      field("stages", &AttentionTiling::stages),
                      field("clustered", &AttentionTiling::clustered),
                      field("chunk_warps", &AttentionTiling::chunk_warps),
                      field("chunk_tile", &AttentionTiling::chunk_tile),
                      field("chunk_stages", &AttentionTiling::chunk_stages)};
  }
};

// --- the steps ------------------------------------------------------------------------------------------------------

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

// One launch, or two when blocks that are no cluster share a pair.
void add_decode_steps(CompiledTactic& tactic, const Problem& problem, const Target& target, const Decode& decode) {
  const Form form = form_of(problem);
  const std::vector<std::string> defines = {
      define("PART_HEADS", decode.part_heads), define("DECODE_SPLITS", decode.splits),
      define("DECODE_CLUSTERED", int64_t{decode.clustered}), define("DECODE_WARPS", decode.warps)};
  const int64_t pairs = form.kv_heads * decode.parts;
  DeviceModule module = module_of(problem, target, decode.file, defines);
  module.defines.insert(module.defines.end(), decode.defines.begin(), decode.defines.end());
  ModuleLaunch launch{.function = "attention_decode", .dependent = true};
  launch.grid = {format("size(4, 0) * {}", pairs * decode.splits), "1", "1"};
  launch.block = {32 * decode.warps, 1, 1};
  launch.cluster = decode.clustered ? decode.splits : 1;
  launch.shared_bytes = decode.shared_bytes;
  launch.arguments = buffer_arguments(0, 8);
  launch.arguments.emplace_back("scratch 0");
  launch.arguments.emplace_back(kSequences);
  add_module_step(tactic, module, launch, all_buffers());
  if (decode.splits == 1 || decode.clustered) return;

  ModuleLaunch combine{.function = "attention_combine", .dependent = true};
  combine.grid = {format("size(4, 0) * {}", pairs), "1", "1"};
  combine.arguments = {"scratch 0", "buf 3", "buf 8"};
  add_module_step(tactic, module_of(problem, target, "attention_combine.cuh", defines), combine, all_buffers());
  const int64_t part_bytes = decode.part_heads * (form.v_head * 4 + 8);
  const int64_t most_decodes = std::min(problem.inputs[0].shape[0].constant(), problem.inputs[4].shape[0].constant());
  tactic.scratch_bytes = most_decodes * pairs * decode.splits * ceil_div(part_bytes, 16) * 16;
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
  for (size_t state = 1; chunk.run > 0 && state <= 2; ++state) {
    const int64_t size = state == 1 ? form.head : form.v_head;
    launch.arguments[state] =
        format("map {} dtype={} dims=[{}, size({}, 0) * {}] strides=[{}] box=[64, {}] swizzle=128", state,
               enum_name(form.state), size, state, form.kv_heads * form.page_size, 2 * size, chunk.run);
  }
  launch.arguments.emplace_back(kSequences);
  add_module_step(tactic, module, launch, all_buffers());
}

// What a block of any decode has of shared memory beside its dynamic part: attention_parts.cuh.
int64_t decode_shared_bytes(const Form& form) { return 16 * (form.v_head * 4 + 8) + 16 * 16 * 8 + 1024; }

// --- which tilings are worth a try ----------------------------------------------------------------------------------

int64_t multiprocessors_of(const Target& target) { return target.multiprocessors > 0 ? target.multiprocessors : 132; }
bool has_clusters(const Target& target) { return std::stoi(target.cuda_arch.substr(3)) >= 90; }

// How many blocks share a pair, the best guess first: a block for every multiprocessor, as far as clusters go. What is
// measured on contexts of usual length has to serve long ones too, so there are no others for the sake of short ones.
std::vector<AttentionTiling> split_tilings(int64_t pairs, const Target& target) {
  const int64_t enough = multiprocessors_of(target), most = has_clusters(target) ? kMostCluster : kMostSplits;
  int64_t splits = most, more = kMostSplits;
  while (splits > 1 && pairs * splits > enough) splits /= 2;
  while (more > 1 && pairs * more > enough) more /= 2;
  std::vector<AttentionTiling> tilings = {{.splits = splits, .clustered = splits > 1 && has_clusters(target)}};
  if (more > splits) tilings.push_back({.splits = more});
  return tilings;
}

std::string unless_attention(const Problem& problem, const Target& target) {
  std::string reason = unless_cuda(target);
  if (reason.empty()) reason = unless_device_floats(problem, {0, 1, 2});
  if (reason.empty() && problem.inputs[1].dtype != problem.inputs[2].dtype)
    reason = format("found a k state {} and a v state {}: both must have one dtype", print(problem.inputs[1]),
                    print(problem.inputs[2]));
  return reason;
}

std::string source_version(std::initializer_list<std::string_view> files) {
  Hasher hasher;
  for (std::string_view file : files) hasher.add(device_code_version(file));
  return hex64(hasher.digest());
}

// --- tensor cores ---------------------------------------------------------------------------------------------------

Decode product_decode(const Form& form, const AttentionTiling& tiling) {
  Decode decode{.file = "attention_decode.cuh", .splits = tiling.splits, .warps = tiling.warps};
  decode.clustered = tiling.clustered;
  // Query heads are columns of products, in eights; registers hold 16 of them only for small heads.
  decode.part_heads = std::min<int64_t>(form.group, std::max(form.head, form.v_head) <= 128 ? 16 : 8);
  decode.parts = ceil_div(form.group, decode.part_heads);
  decode.defines = {define("DECODE_STAGES", tiling.stages)};
  decode.shared_bytes = tiling.warps * tiling.stages * 16 * (2 * form.head + 16 + 2 * form.v_head + 16);
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
          .shared_bytes = 1024 + rows * k_row + slots * (k_row + v_row),
          .run = std::gcd(form.page_size, tiling.chunk_tile)};
}

std::string unless_products(const Form& form) {
  if (form.state == DType::kF32) return "needs bf16 or f16 states";
  for (int64_t head : {form.head, form.v_head})
    if (head % 16 != 0 || head > kMostProductHead)
      return format("found heads of {}: needs multiples of 16 up to {}", head, kMostProductHead);
  return "";
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
    if (std::string reason = refusal(problem, target); !reason.empty()) return Unsupported{reason};
    const Form form = form_of(problem);
    const int64_t tokens = problem.inputs[0].shape[0].constant(), sequences = problem.inputs[4].shape[0].constant();
    std::vector<AttentionTiling> decodes = decode_tilings(form, sequences, target),
                                 chunks = chunk_tilings(form, target);
    if (decodes.empty() || chunks.empty()) return Unsupported{"needs more shared memory than a block may have"};
    // What the problem has none of is not measured either.
    (tokens <= sequences ? chunks : decodes).resize(1);
    std::vector<std::string> configs;
    for (const AttentionTiling& decode : decodes)
      for (const AttentionTiling& chunk : chunks) {
        AttentionTiling tiling = decode;
        tiling.chunk_warps = chunk.chunk_warps, tiling.chunk_tile = chunk.chunk_tile;
        tiling.chunk_stages = chunk.chunk_stages;
        configs.push_back(print_fields(tiling));
      }
    return configs;
  }

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    Lexer lexer(config);
    const auto tiling = parse_fields<AttentionTiling>(lexer);
    const Form form = form_of(problem);
    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    add_decode_steps(tactic, problem, target, product_decode(form, tiling));
    const Chunk chunk = hopper_ ? sm90_chunk(form, tiling) : mma_chunk(form, tiling);
    add_chunk_step(tactic, problem, chunk, module_of(problem, target, chunk.file, chunk.defines));
    return tactic;
  }

 private:
  std::string refusal(const Problem& problem, const Target& target) const {
    std::string reason = unless_attention(problem, target);
    if (reason.empty() && hopper_) reason = unless_hopper(target);
    const Form form = form_of(problem);
    if (reason.empty()) reason = unless_products(form);
    if (reason.empty() && hopper_ && form.page_size % 8 != 0)
      reason = format("found pages of {} positions: needs multiples of 8", form.page_size);
    return reason;
  }

  // For each way to share out, warps whose rings fill the shared memory that their block has of a multiprocessor: bytes
  // under way are what counts. A block that has one alone takes no more than it needs: the product behind starts there
  // while attention runs.
  static std::vector<AttentionTiling> decode_tilings(const Form& form, int64_t sequences, const Target& target) {
    const int64_t pairs = sequences * form.kv_heads * product_decode(form, {.stages = 1}).parts;
    const int64_t limit = shared_bytes_limit(target),
                  tile_bytes = product_decode(form, {.warps = 1, .stages = 1}).shared_bytes;
    std::vector<AttentionTiling> tilings;
    for (AttentionTiling tiling : split_tilings(pairs, target)) {
      const int64_t blocks = std::clamp<int64_t>(ceil_div(pairs * tiling.splits, multiprocessors_of(target)), 1, 4);
      const int64_t own_bytes = decode_shared_bytes(form);
      for (int64_t warps : {4, 2, 1}) {
        tiling.warps = warps;
        tiling.stages = std::min<int64_t>(blocks > 1 ? 6 : 4, (limit / blocks - own_bytes) / (warps * tile_bytes));
        if (tiling.stages < (warps == 1 ? 2 : 3)) continue;
        tilings.push_back(tiling);
        break;
      }
    }
    return tilings;
  }

  std::vector<AttentionTiling> chunk_tilings(const Form& form, const Target& target) const {
    std::vector<AttentionTiling> offers = {{.chunk_warps = 4}}, tilings;
    if (hopper_) {
      // 64 rows for each four warps. Few tokens make more blocks of fewer rows.
      const int64_t head = std::max(form.head, form.v_head), tile = head > 128 ? 64 : 128;
      offers = {{.chunk_warps = 8, .chunk_tile = tile, .chunk_stages = 2},
                {.chunk_warps = 4, .chunk_tile = tile, .chunk_stages = 2}};
      if (head <= 64) offers.insert(offers.begin(), {.chunk_warps = 12, .chunk_tile = tile, .chunk_stages = 2});
    }
    for (const AttentionTiling& offer : offers) {
      const Chunk chunk = hopper_ ? sm90_chunk(form, offer) : mma_chunk(form, offer);
      if (chunk.shared_bytes <= shared_bytes_limit(target)) tilings.push_back(offer);
    }
    return tilings;
  }

  bool hopper_;
  std::string version_;
};

// --- everything -----------------------------------------------------------------------------------------------------

class GeneralSource final : public TacticSource {
 public:
  std::string_view name() const override { return "cuda.attention"; }
  std::string_view version() const override { return version_; }

  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem& problem,
                                                                const Target& target) const override {
    if (!problem.op.is<Attention>()) return Unsupported{};
    if (std::string reason = unless_attention(problem, target); !reason.empty()) return Unsupported{reason};
    const Form form = form_of(problem);
    const int64_t pairs = problem.inputs[4].shape[0].constant() * form.kv_heads * decode_of(form, {}).parts;
    // Its loads run ahead of nothing: a multiprocessor needs two blocks.
    AttentionTiling tiling = split_tilings(ceil_div(pairs, 2), target)[0];
    const int64_t limit = shared_bytes_limit(target) - decode_shared_bytes(form);
    while (tiling.warps > 0 && decode_of(form, tiling).shared_bytes > limit) tiling.warps /= 2;
    while (tiling.chunk_warps > 0 && chunk_of(form, tiling).shared_bytes > limit) tiling.chunk_warps /= 2;
    if (tiling.warps == 0 || tiling.chunk_warps == 0)
      return Unsupported{format("found heads of {} and {}: too much for shared memory", form.head, form.v_head)};
    return std::vector<std::string>{print_fields(tiling)};
  }

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    Lexer lexer(config);
    const auto tiling = parse_fields<AttentionTiling>(lexer);
    const Form form = form_of(problem);
    const Decode decode = decode_of(form, tiling);
    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    add_decode_steps(tactic, problem, target, decode);
    const DeviceModule module = tactic.modules.front();
    add_chunk_step(tactic, problem, chunk_of(form, tiling), module);
    return tactic;
  }

 private:
  static Decode decode_of(const Form& form, const AttentionTiling& tiling) {
    Decode decode{.file = "attention.cuh", .splits = tiling.splits, .warps = tiling.warps};
    decode.clustered = tiling.clustered;
    decode.part_heads = std::min<int64_t>(form.group, 8);
    decode.parts = ceil_div(form.group, decode.part_heads);
    decode.defines = {define("CHUNK_WARPS", tiling.chunk_warps)};
    decode.shared_bytes = tiling.warps * ceil_div(decode.part_heads * std::max(form.head, form.v_head), 4) * 16;
    return decode;
  }
  static Chunk chunk_of(const Form& form, const AttentionTiling& tiling) {
    const int64_t rows = 8 * tiling.chunk_warps;
    return {.file = "attention.cuh",
            .rows = rows,
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
