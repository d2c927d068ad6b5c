#include "kernels/cpu/kv_write.h"

#include "tactics/cpu/op_source.h"

namespace ingot {

std::string refusal(const KvWrite&, const Problem& problem) {
  std::string reason = unless_f32(problem, {1});
  return reason.empty() ? unless_stored_float(problem.inputs[0]) : reason;
}

std::string refusal(const RopeKvWrite& op, const Problem& problem) {
  std::string reason = op.norm ? unless_f32(problem, {0, 1, 5, 6}) : unless_f32(problem, {0, 1});
  for (size_t state : {2, 3})
    if (reason.empty()) reason = unless_stored_float(problem.inputs[state]);
  const int64_t head_size = problem.inputs[2].sizes()[3];
  if (reason.empty() && head_size > kMaxKvWriteHeadSize)
    return format("the head size {} exceeds {}", head_size, kMaxKvWriteHeadSize);
  return reason;
}

}  // namespace ingot
