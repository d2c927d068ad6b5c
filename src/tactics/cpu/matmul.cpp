#include "tactics/cpu/matmul.h"

#include <algorithm>
#include <array>

#include "base/fields.h"
#include "kernels/cpu/matmul.h"
#include "tactics/cpu/op_source.h"

namespace ingot {

namespace {

// One tiling that a source offers from `least` to `most` rows; between guess_least and guess_most rows it is the best
// guess when it is the first of its table.
struct Offer {
  MatmulForm form;
  int64_t rows, columns, k_block, prefetch;
  int64_t least, most, guess_least, guess_most;
};
constexpr int64_t kAny = int64_t{1} << 40;

struct SourceTraits {
  std::string_view name;
  CpuLevel level;
  bool needs_bf16;  // VDPBF16PS
  std::span<const Offer> offers;
};

// The first is the guess for all programs alike, so that they share one copy. Panels take the fewest instructions; two
// strips side by side are one stream of memory; row-major weights are the ones an embedding reads as well.
constexpr std::string_view kLayouts[] = {"panel_16", "panel_32", ""};

bool rounds_x(const SourceTraits& traits) { return traits.offers[0].form == MatmulForm::kPairs; }

// Mirrors what the kernels accept.
bool fits(const Offer& offer, std::string_view layout) {
  if (offer.form == MatmulForm::kStream) return true;
  if (layout == "panel_32") return offer.form == MatmulForm::kPairs || offer.columns % 32 == 0;
  return offer.form == MatmulForm::kGemm || !layout.empty() || offer.k_block * offer.columns <= kMatmulUnpackedPairs;
}

// Whether a source of a higher level solves the problem in every case faster: then only little is offered, for builds
// that exclude that source.
bool outclassed(const SourceTraits& traits, const Problem& problem, const Target& target) {
  bool amx_can = problem.inputs[1].dtype == DType::kBF16;
  return traits.level < (amx_can ? target.cpu_level : std::min(target.cpu_level, CpuLevel::kAvx512));
}

class MatmulSource final : public TacticSource {
 public:
  explicit MatmulSource(const SourceTraits& traits) : traits_(traits), outclassing_(traits.name, traits.level) {}
  std::string_view name() const override { return traits_.name; }
  std::string_view version() const override { return INGOT_SOURCE_HASH; }

  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem& problem,
                                                                const Target& target) const override {
    if (!problem.op.is<Matmul>()) return Unsupported{};
    if (auto reason = refusal(problem, target); !reason.empty()) return Unsupported{reason};
    int64_t rows = problem.inputs[0].shape[0].constant();
    bool few = outclassed(traits_, problem, target);
    std::vector<const Offer*> offers;
    for (const Offer& offer : traits_.offers)
      if (rows >= offer.least && rows <= offer.most) offers.push_back(&offer);
    auto guess = std::find_if(offers.begin(), offers.end(), [&](const Offer* offer) {
      return rows >= offer->guess_least && rows <= offer->guess_most;
    });
    if (guess != offers.end()) std::rotate(offers.begin(), guess, guess + 1);
    if (few && !offers.empty()) offers.erase(offers.begin() + 1, offers.end());
    std::vector<std::string> configs;
    for (const Offer* offer : offers)
      for (std::string_view layout : kLayouts) {
        if (!fits(*offer, layout) || (few && layout == "panel_32")) continue;
        configs.push_back(print_fields(MatmulTiling{.form = offer->form,
                                                    .layout = std::string(layout),
                                                    .rows = offer->rows,
                                                    .columns = offer->columns,
                                                    .k_block = offer->k_block,
                                                    .prefetch = offer->prefetch}));
      }
    return configs;
  }

  std::string_view outclassed_by(const Target& target) const override { return outclassing_.name_on(target); }

  std::string read_layout(const Problem& problem, std::string_view config, size_t input) const override {
    MatmulParameters parameters = parameters_of(problem, config);
    const TensorType& x = problem.inputs[0];
    bool takes = input == 0 && takes_tiles(parameters, x.shape[0].constant(), x.shape[1].constant());
    return takes ? tiles_layout(parameters.k_block) : "";
  }

  bool can_write(const Problem& problem, std::string_view config, size_t, std::string_view layout) const override {
    return tiles_block(layout) > 0 && gives_tiles(parameters_of(problem, config), problem.inputs[0].shape[0].constant(),
                                                  problem.inputs[1].shape[0].constant());
  }

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target&) const override {
    MatmulParameters parameters = parameters_of(problem, config);
    parameters.takes_tiles = !problem.inputs[0].layout.empty();
    parameters.gives_tiles = tiles_block(problem.outputs[0].layout);
    CompiledTactic tactic;
    CompiledStep step{.kernel = std::string(traits_.name), .parameters = print_fields(parameters)};
    int arguments = static_cast<int>(problem.inputs.size()) + 1;
    for (int i = 0; i < arguments; ++i) step.arguments.push_back(i);
    tactic.steps.push_back(std::move(step));
    tactic.input_layouts.resize(problem.inputs.size());
    tactic.input_layouts[1] = parameters.layout;
    const TensorType& w = problem.inputs[1];
    tactic.scratch_bytes = matmul_scratch_bytes(parameters, problem.inputs[0].shape[0].constant(),
                                                w.shape[0].constant(), w.shape[1].constant());
    return tactic;
  }

 private:
  static MatmulParameters parameters_of(const Problem& problem, std::string_view config) {
    Lexer lexer(config);
    MatmulParameters parameters;
    static_cast<Matmul&>(parameters) = *problem.op.as<Matmul>();
    static_cast<MatmulTiling&>(parameters) = parse_fields<MatmulTiling>(lexer);
    return parameters;
  }

  std::string refusal(const Problem& problem, const Target& target) const {
    if (target.kind != "cpu") return "runs on the CPU";
    if (target.cpu_level < traits_.level) return format("needs {}", enum_name(traits_.level));
    if (traits_.needs_bf16 && !target.avx512_bf16) return "needs avx512_bf16";
    if (rounds_x(traits_) && problem.inputs[1].dtype != DType::kBF16) return "rounds x to bf16: needs bf16 weights";
    for (size_t i = 0; i < problem.inputs.size(); ++i) {
      DType dtype = problem.inputs[i].dtype;
      bool weight = dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
      if (i == 1 ? !weight : dtype != DType::kF32)
        return format("input {} is {}: activations must be f32, weights f32, f16 or bf16", i, enum_name(dtype));
    }
    return "";
  }

  const SourceTraits& traits_;
  Outclassing outclassing_;
};

constexpr MatmulForm kStream = MatmulForm::kStream, kGemm = MatmulForm::kGemm, kPairs = MatmulForm::kPairs;

constexpr Offer kPortableOffers[] = {
    {kStream, 0, 0, 0, 1024, 1, 16, 1, 3},
    {kGemm, 3, 16, 512, 0, 3, kAny, 4, kAny},
};
constexpr SourceTraits kPortable = {"cpu.matmul_portable", CpuLevel::kPortable, false, kPortableOffers};

constexpr Offer kAvx2Offers[] = {
    {kStream, 0, 0, 0, 1024, 1, 24, 1, 10},    {kStream, 0, 0, 0, 512, 1, 8, 0, 0},
    {kGemm, 6, 16, 512, 0, 5, kAny, 11, kAny}, {kGemm, 6, 16, 256, 0, 32, kAny, 0, 0},
    {kGemm, 6, 16, 1024, 0, 64, kAny, 0, 0},
};
constexpr SourceTraits kAvx2 = {"cpu.matmul_avx2", CpuLevel::kAvx2, false, kAvx2Offers};

constexpr Offer kAvx512Offers[] = {
    {kStream, 0, 0, 0, 1024, 1, 32, 1, 14},     {kStream, 0, 0, 0, 512, 1, 8, 0, 0},
    {kGemm, 14, 32, 512, 0, 6, kAny, 15, kAny}, {kGemm, 9, 48, 512, 0, 32, kAny, 0, 0},
    {kGemm, 14, 32, 256, 0, 64, kAny, 0, 0},
};
constexpr SourceTraits kAvx512 = {"cpu.matmul_avx512", CpuLevel::kAvx512, false, kAvx512Offers};

constexpr Offer kAvx512Bf16Offers[] = {
    {kPairs, 14, 32, 1024, 1024, 1, kAny, 1, kAny},
};
constexpr SourceTraits kAvx512Bf16 = {"cpu.matmul_avx512_bf16", CpuLevel::kAvx512, true, kAvx512Bf16Offers};

constexpr Offer kAmxOffers[] = {
    {kPairs, 16, 64, 8192, 2048, 1, 16, 1, 16},
    {kPairs, 16, 64, 768, 2048, 1, 16, 0, 0},
    {kPairs, 16, 32, 512, 0, 1, kAny, 17, kAny},
};
constexpr SourceTraits kAmx = {"cpu.matmul_amx", CpuLevel::kAmx, true, kAmxOffers};

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
const TacticSource* matmul_avx512_bf16_source() {
  static const MatmulSource source(kAvx512Bf16);
  return &source;
}
const TacticSource* matmul_amx_source() {
  static const MatmulSource source(kAmx);
  return &source;
}

}  // namespace ingot
