// Tactic sources of the kernels that are an op and its rows (kernels/cpu/op_kernel.h): one tactic each, whose
// parameters are the attributes of the op and what it hands over.
#pragma once

#include <string>

#include "device/target.h"
#include "kernels/cpu/op_kernel.h"
#include "ops/pointwise_chain.h"
#include "tactics/tactic.h"

namespace ingot {

// Why a problem of the op cannot be solved on the CPU, or "".
std::string refusal(const RmsNorm&, const Problem&);
std::string refusal(const LayerNorm&, const Problem&);
std::string refusal(const AddRmsNorm&, const Problem&);
std::string refusal(const AddLayerNorm&, const Problem&);
std::string refusal(const Add&, const Problem&);
std::string refusal(const Multiply&, const Problem&);
std::string refusal(const Scale&, const Problem&);
std::string refusal(const SoftCap&, const Problem&);
std::string refusal(const Activation&, const Problem&);
std::string refusal(const GatedActivation&, const Problem&);
std::string refusal(const Cast&, const Problem&);
std::string refusal(const PointwiseChain&, const Problem&);
std::string refusal(const Embedding&, const Problem&);
std::string refusal(const GatherRows&, const Problem&);
std::string refusal(const Slice&, const Problem&);
std::string refusal(const RopeAngles&, const Problem&);
std::string refusal(const Rope&, const Problem&);
std::string refusal(const KvWrite&, const Problem&);
std::string refusal(const RopeKvWrite&, const Problem&);
std::string refusal(const Route&, const Problem&);
std::string refusal(const Sample&, const Problem&);
std::string refusal(const NextIds&, const Problem&);

// What a kernel needs in scratch memory, where it needs any.
template <class Op>
int64_t scratch_bytes(const Op&, const Problem&) {
  return 0;
}
int64_t scratch_bytes(const Sample&, const Problem&);

// What the kernel is told, and whether it can write a result in such a layout.
template <class Op>
std::string parameters_of(const Op& op, const Problem&) {
  return print_fields(op);
}
std::string parameters_of(const RmsNorm&, const Problem&);
std::string parameters_of(const LayerNorm&, const Problem&);
std::string parameters_of(const AddRmsNorm&, const Problem&);
std::string parameters_of(const AddLayerNorm&, const Problem&);
template <class Op>
bool can_write(const Op&, const Problem&, size_t, std::string_view) {
  return false;
}
bool can_write(const RmsNorm&, const Problem&, size_t output, std::string_view layout);
bool can_write(const LayerNorm&, const Problem&, size_t output, std::string_view layout);
bool can_write(const AddRmsNorm&, const Problem&, size_t output, std::string_view layout);
bool can_write(const AddLayerNorm&, const Problem&, size_t output, std::string_view layout);

// "found bf16[4, 8] where the CPU kernels need f32", or "" when each of the inputs and outputs with these numbers
// (inputs first) is f32.
std::string unless_f32(const Problem& problem, std::initializer_list<size_t> arguments);
// "" when the type is f32, bf16 or f16.
std::string unless_stored_float(const TensorType& type);
// Why a target cannot run kernels of `level`, or "".
std::string unless_level(const Target& target, CpuLevel level);
// The numbers of all inputs and outputs in turn.
std::vector<int> all_arguments(const Problem& problem);

// The source that outclasses a portable one: the same loops with vectors of twice the width and more, and fused
// multiplications, wherever there is AVX2. Between AVX2 and AVX-512 memory and clock rates have a say, so both are
// measured.
class Outclassing {
 public:
  // For the source `name` of `level`; names end in the level.
  Outclassing(std::string_view name, CpuLevel level);
  std::string_view name_on(const Target& target) const {
    if (target.cpu_level < CpuLevel::kAvx2) return {};
    return name_;
  }

 private:
  std::string name_;
};

// Of the kernels behind all OpSources.
std::string_view op_source_version();

// `suffix` follows the op's name in the kernel's: "_avx2", or "" when there is one kernel for all levels.
template <class Op>
class OpSource final : public TacticSource {
 public:
  OpSource(CpuLevel level, std::string_view suffix)
      : level_(level), name_("cpu." + std::string(Op::name) + std::string(suffix)), outclassing_(name_, level) {}

  std::string_view name() const override { return name_; }
  std::string_view version() const override { return op_source_version(); }

  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem& problem,
                                                                const Target& target) const override {
    const Op* op = problem.op.template as<Op>();
    if (!op) return Unsupported{};
    std::string reason = unless_level(target, level_);
    if (reason.empty()) reason = refusal(*op, problem);
    if (!reason.empty()) return Unsupported{reason};
    return std::vector<std::string>{"rows"};
  }

  std::string_view outclassed_by(const Target& target) const override { return outclassing_.name_on(target); }

  bool can_write(const Problem& problem, std::string_view, size_t output, std::string_view layout) const override {
    return ingot::can_write(*problem.op.template as<Op>(), problem, output, layout);
  }

  CompiledTactic compile(const Problem& problem, std::string_view, const Target&) const override {
    const Op& op = *problem.op.template as<Op>();
    CompiledTactic tactic;
    tactic.scratch_bytes = scratch_bytes(op, problem);
    tactic.steps.push_back({name_, parameters_of(op, problem), all_arguments(problem)});
    tactic.input_layouts.resize(problem.inputs.size());
    return tactic;
  }

 private:
  CpuLevel level_;
  std::string name_;
  Outclassing outclassing_;
};

// The source of the kernel "cpu.<op>_<level>", or of "cpu.<op>" for ops that gain nothing from instruction sets.
template <class Op, CpuLevel level>
const TacticSource* op_source() {
  static const OpSource<Op> source(level, "_" + std::string(enum_name(level)));
  return &source;
}
template <class Op>
const TacticSource* op_source() {
  static const OpSource<Op> source(CpuLevel::kPortable, "");
  return &source;
}

}  // namespace ingot
