// The source "cuda.skinny": products of 16-bit weights with few rows of x on the tensor cores, at the speed of memory.
#include <algorithm>

#include "base/fields.h"
#include "tactics/cuda/matmul.h"
#include "tactics/cuda/matmul_problem.h"

namespace ingot {

namespace {

constexpr int64_t kFewestRows = 3, kMostRows = 32;

struct SkinnyForm {
  int64_t rows = 8, tile = 16, warps_m = 1, warps_k = 8, slabs = 8;
  static constexpr auto fields() {
    return std::tuple{field("rows", &SkinnyForm::rows), field("tile", &SkinnyForm::tile),
                      field("warps_m", &SkinnyForm::warps_m), field("warps_k", &SkinnyForm::warps_k),
                      field("slabs", &SkinnyForm::slabs)};
  }
};

struct SkinnySizes {
  int64_t stages, shared_bytes;
};

SkinnySizes sizes_of(const SkinnyForm& form, const Target& target) {
  int64_t stage_bytes = (form.tile + form.rows) * form.slabs * 128 + 16;
  int64_t sums = 1024 + form.warps_k * form.rows * (form.tile + 4) * 4;
  int64_t stages = std::min<int64_t>((shared_bytes_limit(target) - sums) / stage_bytes, 32);
  // More than half of shared memory: then no multiprocessor gets two blocks while another has none.
  return {stages, std::max(stages * stage_bytes + sums, shared_bytes_limit(target) / 2 + 2048)};
}

// The most features that one block gets, over the mean: what blocks wait for each other.
double imbalance(const SkinnyForm& form, const MatmulProblem& problem, const Target& target) {
  int64_t sms = target.multiprocessors > 0 ? target.multiprocessors : 132;
  int64_t most = ceil_div(ceil_div(problem.n, form.tile), sms) * form.tile;
  return static_cast<double>(most * sms) / static_cast<double>(std::max<int64_t>(problem.n, 1));
}

class SkinnySource final : public TacticSource {
 public:
  std::string_view name() const override { return "cuda.skinny"; }
  std::string_view version() const override {
    static const std::string version = device_code_version("skinny.cuh");
    return version;
  }

  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem& problem,
                                                                const Target& target) const override {
    if (!problem.op.is<Matmul>()) return Unsupported{};
    if (std::string reason = refusal(problem, target); !reason.empty()) return Unsupported{reason};
    MatmulProblem matmul(problem);
    std::vector<SkinnyForm> forms;
    for (SkinnyForm form : kForms) {
      form.rows = matmul.rows <= 8 ? 8 : std::min<int64_t>(round_up(matmul.rows, 16), kMostRows);
      if (sizes_of(form, target).stages >= 3) forms.push_back(form);
    }
    std::stable_sort(forms.begin(), forms.end(), [&](const SkinnyForm& a, const SkinnyForm& b) {
      return imbalance(a, matmul, target) < imbalance(b, matmul, target);
    });
    std::vector<std::string> configs;
    for (const SkinnyForm& form : forms)
      if (configs.size() < 4 && imbalance(form, matmul, target) <= 1.25 * imbalance(forms[0], matmul, target))
        configs.push_back(print_fields(form));
    return configs;
  }

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    MatmulProblem matmul(problem);
    Lexer lexer(config);
    SkinnyForm form = parse_fields<SkinnyForm>(lexer);
    SkinnySizes sizes = sizes_of(form, target);
    DeviceModule module = matmul_module("skinny.cuh", matmul, target);
    auto add = [&](std::string_view name, int64_t value) { module.defines.push_back(define(name, value)); };
    add("ROWS", form.rows);
    add("TILE", form.tile);
    add("WARPS_M", form.warps_m);
    add("WARPS_K", form.warps_k);
    add("SLABS", form.slabs);
    add("STAGES", sizes.stages);
    add("SHARED_BYTES", sizes.shared_bytes);
    auto map = [&](int buffer, std::string_view rows, int64_t box_rows) {
      return format("map {} dtype={} dims=[64, {}, {}] strides=[{}, 128] box=[64, {}, {}] swizzle=128", buffer,
                    enum_name(matmul.w), rows, matmul.k / 64, matmul.k * 2, box_rows, form.slabs);
    };
    const std::string w =
        matmul.gated
            ? format("map 1 dtype={} dims=[64, {}, 2, {}] strides=[{}, {}, 128] box=[64, {}, 2, {}] swizzle=128",
                     enum_name(matmul.w), matmul.n / 2, matmul.k / 64, matmul.k * 2, matmul.n * matmul.k, form.tile / 2,
                     form.slabs)
            : map(1, format("{}", matmul.n), form.tile);
    ModuleLaunch launch = matmul_launch("skinny", matmul, map(0, "size(0, 0)", form.rows), w);
    launch.grid = {format("min(sms, {})", ceil_div(matmul.n, form.tile)), format("ceil(size(0, 0), {})", form.rows),
                   "1"};
    launch.block = {(form.warps_m * form.warps_k + 1) * 32, 1, 1};
    launch.shared_bytes = sizes.shared_bytes;
    CompiledTactic tactic;
    add_matmul_step(tactic, module, std::move(launch), matmul);
    return tactic;
  }

 private:
  static std::string refusal(const Problem& problem, const Target& target) {
    std::string reason = unless_cuda_matmul(problem, target);
    if (!reason.empty()) return reason;
    if (!has_bulk_copies(target)) return "needs compute capability 9.0";
    MatmulProblem matmul(problem);
    if (!matmul.same_16_bit()) return "needs x and weights in bf16 or both in f16";
    // Its loads are not paced (gemv_stream.cuh), which makes it slower between the other kernels of a step than alone.
    if (matmul.rows < kFewestRows) return format("{} rows are few: cuda.gemv is for these", matmul.rows);
    if (matmul.rows > kMostRows) return format("{} rows are many: at most {}", matmul.rows, kMostRows);
    if (matmul.k % 64 != 0) return format("k is {}, not a multiple of 64", matmul.k);
    return "";
  }

  static constexpr SkinnyForm kForms[] = {
      {8, 32, 2, 4, 4}, {8, 16, 1, 8, 8}, {8, 48, 3, 4, 2}, {8, 32, 2, 4, 2}, {8, 112, 7, 1, 1},
  };
};

}  // namespace

const TacticSource* cuda_skinny_source() {
  static const SkinnySource source;
  return &source;
}

}  // namespace ingot
