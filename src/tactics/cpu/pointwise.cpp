#include "tactics/cpu/op_source.h"

namespace ingot {

std::string refusal(const Add&, const Problem& problem) { return unless_f32(problem, {0, 1}); }
std::string refusal(const Multiply&, const Problem& problem) { return unless_f32(problem, {0, 1}); }
std::string refusal(const Scale&, const Problem& problem) { return unless_f32(problem, {0}); }
std::string refusal(const SoftCap&, const Problem& problem) { return unless_f32(problem, {0}); }
std::string refusal(const Activation&, const Problem& problem) { return unless_f32(problem, {0}); }

std::string refusal(const GatedActivation&, const Problem& problem) {
  return problem.inputs.size() == 1 ? unless_f32(problem, {0}) : unless_f32(problem, {0, 1});
}

std::string refusal(const Cast&, const Problem& problem) {
  std::string reason = unless_stored_float(problem.inputs[0]);
  return reason.empty() ? unless_stored_float(problem.outputs[0]) : reason;
}

std::string refusal(const PointwiseChain&, const Problem& problem) {
  for (const TensorType& input : problem.inputs)
    if (std::string reason = unless_stored_float(input); !reason.empty()) return reason;
  return unless_stored_float(problem.outputs[0]);
}

}  // namespace ingot
