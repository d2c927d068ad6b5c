#include <cmath>

#include "kernels/cpu/op_kernel.h"
#include "kernels/cpu/rows.h"

namespace ingot {

namespace {

// The expert that follows (`logit`, `expert`) in falling order, equal ones by index; -1 for a row of NaNs.
int32_t next_expert(const float* logits, int64_t experts, float logit, int32_t expert) {
  int32_t best = -1;
  for (int32_t e = 0; e < experts; ++e) {
    const bool follows = expert < 0 || logits[e] < logit || (logits[e] == logit && e > expert);
    if (follows && (best < 0 || logits[e] > logits[best])) best = e;
  }
  return best;
}

void route_row(const Route& op, const float* logits, int64_t experts, int32_t* ids, float* weights) {
  int32_t expert = next_expert(logits, experts, 0, -1);
  const float greatest = logits[expert];
  float sum = 0, chosen = 0;
  if (!op.normalize)
    for (int64_t e = 0; e < experts; ++e) sum += std::exp(logits[e] - greatest);
  for (int64_t j = 0; j < op.top_k; ++j) {
    ids[j] = expert;
    weights[j] = std::exp(logits[expert] - greatest);
    chosen += weights[j];
    if (j + 1 == op.top_k) break;
    const int32_t next = next_expert(logits, experts, logits[expert], expert);
    expert = next < 0 ? 0 : next;  // only NaNs are left: any expert will do, but never an index out of range
  }
  for (int64_t j = 0; j < op.top_k; ++j) weights[j] /= op.normalize ? chosen : sum;
}

}  // namespace

void run(const Route& op, const VectorFunctions&, const Launch& launch) {
  const float* logits = launch.arguments[0].as<float>();
  int32_t* ids = launch.arguments[1].as<int32_t>();
  float* weights = launch.arguments[2].as<float>();
  const int64_t experts = row_size(launch.arguments[0]);
  for_each_row_range(launch, launch.arguments[0].size[0], experts * op.top_k, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      route_row(op, logits + i * experts, experts, ids + i * op.top_k, weights + i * op.top_k);
  });
}

}  // namespace ingot
