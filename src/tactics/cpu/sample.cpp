#include "ops/sample.h"

#include "tactics/cpu/op_source.h"

namespace ingot {

std::string refusal(const Sample&, const Problem& problem) { return unless_f32(problem, {0, 1}); }
std::string refusal(const NextIds&, const Problem&) { return ""; }

// Copies of the logits, which penalties change.
int64_t scratch_bytes(const Sample&, const Problem& problem) { return problem.inputs[0].bytes(); }

}  // namespace ingot
