#include "tactics/cpu/op_source.h"

namespace ingot {

std::string refusal(const RopeAngles&, const Problem& problem) { return unless_f32(problem, {1}); }
std::string refusal(const Rope&, const Problem& problem) { return unless_f32(problem, {0, 1}); }

}  // namespace ingot
