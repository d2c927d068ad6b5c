#include "tactics/cpu/op_source.h"

namespace ingot {

std::string refusal(const Embedding&, const Problem& problem) {
  std::string reason = unless_stored_float(problem.inputs[1]);
  return reason.empty() ? unless_f32(problem, {2}) : reason;
}
// These copy bytes of any type.
std::string refusal(const GatherRows&, const Problem&) { return ""; }
std::string refusal(const Slice&, const Problem&) { return ""; }

}  // namespace ingot
