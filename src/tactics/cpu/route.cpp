#include "tactics/cpu/op_source.h"

namespace ingot {

std::string refusal(const Route&, const Problem& problem) { return unless_f32(problem, {0}); }

}  // namespace ingot
