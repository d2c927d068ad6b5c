#include "tactics/cpu/attention.h"

#include "kernels/cpu/attention.h"
#include "tactics/cpu/op_source.h"

namespace ingot {

namespace {

// 16 MB: beyond that there is work for all threads without splitting contexts.
constexpr int64_t kMostPartialFloats = int64_t{4} << 20;

std::string refusal(const Attention& op, const Problem& problem) {
  std::string reason = unless_f32(problem, {0});
  for (size_t state : {1, 2})
    if (reason.empty()) reason = unless_stored_float(problem.inputs[state]);
  const int64_t heads_per_kv = op.heads / problem.inputs[1].sizes()[1];
  if (reason.empty() && heads_per_kv > kMaxWideRows)
    return format("{} heads share a kv head, more than {}", heads_per_kv, kMaxWideRows);
  return reason;
}

class AttentionSource final : public TacticSource {
 public:
  explicit AttentionSource(CpuLevel level)
      : level_(level), name_("cpu.attention_" + std::string(enum_name(level))), outclassing_(name_, level) {}

  std::string_view name() const override { return name_; }
  std::string_view version() const override { return INGOT_SOURCE_HASH; }

  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem& problem,
                                                                const Target& target) const override {
    const Attention* op = problem.op.as<Attention>();
    if (!op) return Unsupported{};
    std::string reason = unless_level(target, level_);
    if (reason.empty()) reason = refusal(*op, problem);
    for (size_t state : {1, 2})
      if (reason.empty() && level_ == CpuLevel::kAmx && problem.inputs[state].dtype != DType::kBF16)
        reason = format("found {} where a bf16 state is needed", print(problem.inputs[state]));
    if (!reason.empty()) return Unsupported{reason};
    return std::vector<std::string>{"paged"};
  }

  std::string_view outclassed_by(const Target& target) const override { return outclassing_.name_on(target); }

  bool can_write(const Problem& problem, std::string_view, size_t, std::string_view layout) const override {
    const Attention& op = *problem.op.as<Attention>();
    return attention_gives_tiles(level_, problem.inputs[0].sizes()[0], op.heads, problem.inputs[2].sizes()[3],
                                 tiles_block(layout));
  }

  CompiledTactic compile(const Problem& problem, std::string_view, const Target& target) const override {
    const Attention& op = *problem.op.as<Attention>();
    const std::vector<int64_t> k = problem.inputs[1].sizes(), v = problem.inputs[2].sizes();
    const int64_t sequences = problem.inputs[4].sizes()[0], positions = problem.inputs[6].sizes()[0] * k[2];
    AttentionParameters parameters{.heads = op.heads, .scale = op.scale, .soft_cap = op.soft_cap, .window = op.window};
    parameters.threads = std::max(1, target.threads);
    parameters.gives_tiles = tiles_block(problem.outputs[0].layout);
    if (parameters.threads > 1)
      parameters.partial_floats = std::min(
          kMostPartialFloats, attention_partial_floats(level_, 4 * op.heads / k[1], k[1], v[3], positions, sequences));
    CompiledTactic tactic;
    tactic.steps.push_back({name_, print_fields(parameters), all_arguments(problem)});
    tactic.input_layouts.resize(problem.inputs.size());
    tactic.scratch_bytes = attention_scratch_bytes(parameters, level_, k[3], v[3], sequences);
    return tactic;
  }

 private:
  CpuLevel level_;
  std::string name_;
  Outclassing outclassing_;
};

}  // namespace

const TacticSource* attention_source(CpuLevel level) {
  static const AttentionSource sources[] = {AttentionSource(CpuLevel::kPortable), AttentionSource(CpuLevel::kAvx2),
                                            AttentionSource(CpuLevel::kAvx512), AttentionSource(CpuLevel::kAmx)};
  return &sources[static_cast<size_t>(level)];
}

}  // namespace ingot
