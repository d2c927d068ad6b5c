// The sources "cuda.gemv" and "cuda.gemv_direct": products for a few rows of x, at the speed of memory.
#include <algorithm>
#include <optional>

#include "base/fields.h"
#include "tactics/cuda/matmul.h"
#include "tactics/cuda/matmul_problem.h"

namespace ingot {

namespace {

std::string refusal(const Problem& problem, const Target& target) {
  std::string reason = unless_cuda_matmul(problem, target);
  if (!reason.empty()) return reason;
  MatmulProblem matmul(problem);
  // 16-bit weights go to cuda.skinny after that where it runs.
  int64_t most = size_of(matmul.w) == 2 && has_bulk_copies(target) ? 2 : 8;
  if (matmul.rows > most) return format("{} rows are many: at most {}", matmul.rows, most);
  if (matmul.k * size_of(matmul.w) % 16 != 0) return "rows of w are no multiple of 16 bytes";
  if (matmul.w == DType::kF16 && matmul.x != matmul.w) return "x has a wider range than f16 weights";
  return "";
}

// The rows that one pass over the weights serves.
int64_t pass_rows(int64_t rows) { return rows <= 2 ? std::max<int64_t>(rows, 1) : 4; }

// --- through shared memory -----------------------------------------------------------------------------------------

// Shared memory that a block leaves to the kernels in front and behind, which run beside it.
constexpr int64_t kForOthers = 12 * 1024;
// Copies of a block that are under way before x is there: about what memory needs to be busy all the time.
constexpr int64_t kWindowBytes = 48 * 1024;

struct StreamForm {
  int64_t rows = 1, unit = 2, chunk_bytes = 4096, groups = 8, split = 1;
  static constexpr auto fields() {
    return std::tuple{field("rows", &StreamForm::rows), field("unit", &StreamForm::unit),
                      field("chunk_bytes", &StreamForm::chunk_bytes), field("groups", &StreamForm::groups),
                      field("split", &StreamForm::split)};
  }
};

// What follows from a form and the shape of w.
struct StreamSizes {
  int64_t chunk = 0;         // elements
  int64_t slots = 0;         // a multiple of the groups
  int64_t window = 0;        // units
  int64_t partial_rows = 0;  // rows of a block between two epilogues
  int64_t shared_bytes = 0;

  // nullopt when shared memory has no room for a slot of every group.
  static std::optional<StreamSizes> make(const StreamForm& form, const MatmulProblem& problem, const Target& target);
};

std::optional<StreamSizes> StreamSizes::make(const StreamForm& form, const MatmulProblem& problem,
                                             const Target& target) {
  int64_t element = size_of(problem.w), k = problem.k, step = form.split * 512 / element;
  StreamSizes sizes;
  // Chunks of equal length, whole steps of the group.
  int64_t chunks = ceil_div(k * element, form.chunk_bytes);
  sizes.chunk = chunks == 1 ? k : std::min(k, round_up(ceil_div(k, chunks), step));
  chunks = ceil_div(k, sizes.chunk);
  int64_t padded_bytes = ((chunks - 1) * sizes.chunk + round_up(k - (chunks - 1) * sizes.chunk, step)) * element;
  int64_t row_bytes = form.rows * chunks * form.split * 4;
  sizes.partial_rows = 256;
  while (sizes.partial_rows > 32 && sizes.partial_rows * row_bytes > 4096) sizes.partial_rows /= 2;
  int64_t fixed = form.rows * padded_bytes + sizes.partial_rows * row_bytes + 8;
  int64_t unit = form.unit * sizes.chunk * element, limit = shared_bytes_limit(target);
  int64_t room = (limit - kForOthers - fixed) / (form.groups * (unit + 16));
  if (room < 1) return std::nullopt;
  // No more than the block will ever ask for.
  int64_t sms = target.multiprocessors > 0 ? target.multiprocessors : 132;
  int64_t units = ceil_div(ceil_div(problem.n, sms), form.unit) * chunks;
  sizes.slots = std::min(room, std::max<int64_t>(ceil_div(units, form.groups), 1)) * form.groups;
  sizes.window = std::clamp<int64_t>(kWindowBytes / unit, 1, sizes.slots);
  sizes.shared_bytes = fixed + sizes.slots * (unit + 16);
  // More than half of shared memory: then no multiprocessor gets two blocks while another has none. A small block needs
  // no such care, for it finds room beside a larger one in front: its weights are under way while attention still runs.
  const int64_t more_than_half = limit / 2 + 2048;
  if (sizes.shared_bytes > limit - more_than_half - kForOthers)
    sizes.shared_bytes = std::max(sizes.shared_bytes, more_than_half);
  return sizes;
}

class GemvSource final : public TacticSource {
 public:
  std::string_view name() const override { return "cuda.gemv"; }
  std::string_view version() const override {
    static const std::string version = device_code_version("gemv_stream.cuh");
    return version;
  }

  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem& problem,
                                                                const Target& target) const override {
    if (!problem.op.is<Matmul>()) return Unsupported{};
    std::string reason = refusal(problem, target);
    if (reason.empty() && !has_bulk_copies(target)) reason = "needs compute capability 9.0";
    if (!reason.empty()) return Unsupported{reason};
    MatmulProblem matmul(problem);
    std::vector<std::string> configs;
    for (StreamForm form : kForms) {
      form.rows = pass_rows(matmul.rows);
      if (StreamSizes::make(form, matmul, target)) configs.push_back(print_fields(form));
    }
    if (configs.empty()) return Unsupported{"x leaves no room for weights in shared memory"};
    return configs;
  }

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    MatmulProblem matmul(problem);
    Lexer lexer(config);
    StreamForm form = parse_fields<StreamForm>(lexer);
    std::optional<StreamSizes> sizes = StreamSizes::make(form, matmul, target);
    if (!sizes) fail(ErrorCode::kRuntime, "cuda.gemv {} does not fit {}", config, problem.key());
    DeviceModule module = matmul_module("gemv_stream.cuh", matmul, target);
    auto add = [&](std::string_view name, int64_t value) { module.defines.push_back(define(name, value)); };
    add("ROWS", form.rows);
    add("UNIT_ROWS", form.unit);
    add("CHUNK", sizes->chunk);
    add("GROUPS", form.groups);
    add("SPLIT", form.split);
    add("SLOTS", sizes->slots);
    add("WINDOW", sizes->window);
    add("PARTIAL_ROWS", sizes->partial_rows);
    add("SHARED_BYTES", sizes->shared_bytes);
    ModuleLaunch launch = matmul_launch("gemv_stream", matmul);
    launch.grid = {"sms", format("ceil(size(0, 0), {})", form.rows), "1"};
    launch.block = {(form.groups * form.split + 1) * 32, 1, 1};
    launch.shared_bytes = sizes->shared_bytes;
    CompiledTactic tactic;
    add_matmul_step(tactic, module, std::move(launch), matmul);
    return tactic;
  }

 private:
  static constexpr StreamForm kForms[] = {
      {1, 2, 4096, 8, 1},
      {1, 1, 8192, 8, 1},
      {1, 2, 2048, 8, 1},
      {1, 2, 4096, 4, 2},
  };
};

// --- to registers --------------------------------------------------------------------------------------------------

struct DirectForm {
  int64_t rows = 1, unit = 2, unroll = 4, warps = 8, blocks = 2;
  static constexpr auto fields() {
    return std::tuple{field("rows", &DirectForm::rows), field("unit", &DirectForm::unit),
                      field("unroll", &DirectForm::unroll), field("warps", &DirectForm::warps),
                      field("blocks", &DirectForm::blocks)};
  }
};

int64_t direct_shared_bytes(const DirectForm& form, const MatmulProblem& problem) {
  return form.rows * round_up(problem.k * size_of(problem.w), form.unroll * 512);
}

class GemvDirectSource final : public TacticSource {
 public:
  std::string_view name() const override { return "cuda.gemv_direct"; }
  std::string_view version() const override {
    static const std::string version = device_code_version("gemv_direct.cuh");
    return version;
  }
  // Alone it is as fast or faster on the smallest products, but between other kernels of a step too little of the next
  // product is under way (docs/performance.md).
  std::string_view outclassed_by(const Target& target) const override {
    return target.kind == "cuda" && has_bulk_copies(target) ? "cuda.gemv" : "";
  }

  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem& problem,
                                                                const Target& target) const override {
    if (!problem.op.is<Matmul>()) return Unsupported{};
    std::string reason = refusal(problem, target);
    if (!reason.empty()) return Unsupported{reason};
    MatmulProblem matmul(problem);
    std::vector<std::string> configs;
    for (DirectForm form : kForms) {
      if (matmul.gated && form.unit % 2 != 0) continue;
      form.rows = pass_rows(matmul.rows);
      if (direct_shared_bytes(form, matmul) <= shared_bytes_limit(target)) configs.push_back(print_fields(form));
      if (has_bulk_copies(target)) break;  // seldom better than cuda.gemv: one will do
    }
    if (configs.empty()) return Unsupported{"x does not fit into shared memory"};
    return configs;
  }

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    MatmulProblem matmul(problem);
    Lexer lexer(config);
    DirectForm form = parse_fields<DirectForm>(lexer);
    DeviceModule module = matmul_module("gemv_direct.cuh", matmul, target);
    auto add = [&](std::string_view name, int64_t value) { module.defines.push_back(define(name, value)); };
    add("ROWS", form.rows);
    add("UNIT_ROWS", form.unit);
    add("UNROLL", form.unroll);
    add("BLOCK_WARPS", form.warps);
    add("SHARED_BYTES", direct_shared_bytes(form, matmul));
    ModuleLaunch launch = matmul_launch("gemv_direct", matmul);
    launch.grid = {format("min({} * sms, {})", form.blocks, ceil_div(ceil_div(matmul.n, form.unit), form.warps)),
                   format("ceil(size(0, 0), {})", form.rows), "1"};
    launch.block = {form.warps * 32, 1, 1};
    launch.shared_bytes = direct_shared_bytes(form, matmul);
    CompiledTactic tactic;
    add_matmul_step(tactic, module, std::move(launch), matmul);
    return tactic;
  }

 private:
  static constexpr DirectForm kForms[] = {{1, 2, 4, 8, 4}, {1, 1, 4, 8, 4}, {1, 1, 8, 8, 4}};
};

}  // namespace

const TacticSource* cuda_gemv_source() {
  static const GemvSource source;
  return &source;
}
const TacticSource* cuda_gemv_direct_source() {
  static const GemvDirectSource source;
  return &source;
}

}  // namespace ingot
