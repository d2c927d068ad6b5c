#include "tactics/cpu/expert_mlp.h"

#include "base/fields.h"
#include "kernels/cpu/expert_mlp.h"
#include "tactics/cpu/op_source.h"

namespace ingot {

namespace {

// Panels need the fewest instructions; row-major weights need no second form.
constexpr std::string_view kLayouts[] = {"panel_16", "panel_32", ""};

class ExpertMlpSource final : public TacticSource {
 public:
  ExpertMlpSource(CpuLevel level, std::string_view name) : level_(level), name_(name), outclassing_(name, level) {}
  std::string_view name() const override { return name_; }
  std::string_view version() const override { return INGOT_SOURCE_HASH; }

  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem& problem,
                                                                const Target& target) const override {
    if (!problem.op.is<ExpertMlp>()) return Unsupported{};
    std::string reason = unless_level(target, level_);
    if (reason.empty()) reason = unless_f32(problem, {0, 2, 5});
    if (reason.empty()) reason = unless_stored_float(problem.inputs[3]);
    if (reason.empty() && problem.inputs[3].dtype != problem.inputs[4].dtype)
      reason = "the two weights have different dtypes";
    if (!reason.empty()) return Unsupported{reason};
    std::vector<std::string> configs;
    for (std::string_view layout : kLayouts) configs.push_back(layout.empty() ? "rows" : std::string(layout));
    return configs;
  }

  std::string_view outclassed_by(const Target& target) const override { return outclassing_.name_on(target); }

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target&) const override {
    ExpertMlpParameters parameters;
    static_cast<ExpertMlp&>(parameters) = *problem.op.as<ExpertMlp>();
    if (config != "rows") parameters.layout = std::string(config);
    CompiledTactic tactic;
    tactic.steps.push_back({name_, print_fields(parameters), all_arguments(problem)});
    tactic.input_layouts = {"", "", "", parameters.layout, parameters.layout};
    auto size = [&](size_t input, size_t axis) { return problem.inputs[input].shape[axis].constant(); };
    tactic.scratch_bytes = expert_mlp_scratch_bytes({size(0, 0), size(0, 1), size(1, 1), size(4, 0), size(4, 2)});
    return tactic;
  }

 private:
  CpuLevel level_;
  std::string name_;
  Outclassing outclassing_;
};

}  // namespace

const TacticSource* expert_mlp_portable_source() {
  static const ExpertMlpSource source(CpuLevel::kPortable, "cpu.expert_mlp_portable");
  return &source;
}
const TacticSource* expert_mlp_avx2_source() {
  static const ExpertMlpSource source(CpuLevel::kAvx2, "cpu.expert_mlp_avx2");
  return &source;
}
const TacticSource* expert_mlp_avx512_source() {
  static const ExpertMlpSource source(CpuLevel::kAvx512, "cpu.expert_mlp_avx512");
  return &source;
}

}  // namespace ingot
