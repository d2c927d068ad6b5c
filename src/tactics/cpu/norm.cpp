#include "tactics/cpu/op_source.h"

namespace ingot {

std::string refusal(const RmsNorm&, const Problem& problem) { return unless_f32(problem, {0, 1}); }
std::string refusal(const LayerNorm&, const Problem& problem) { return unless_f32(problem, {0, 1, 2}); }
std::string refusal(const AddRmsNorm&, const Problem& problem) { return unless_f32(problem, {0, 1, 2}); }
std::string refusal(const AddLayerNorm&, const Problem& problem) { return unless_f32(problem, {0, 1, 2, 3}); }

}  // namespace ingot
