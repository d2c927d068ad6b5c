// What one step must read and compute at least.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/plan.h"

namespace ingot {

struct StepCost {
  double bytes = 0;  // each weight byte that the step uses once, and the keys and values it reads
  double flops = 0;  // multiplications and additions
};

// `sequences` sequences that each run `tokens` tokens and stand at `context` positions afterwards; one output row each.
// An embedding table counts for the rows looked up, experts for those that are chosen at most.
StepCost step_cost(const Plan& plan, const Program& program, int64_t sequences, int64_t tokens, int64_t context);
// The same for every launch of the program; an op that takes several has its cost at the first.
std::vector<StepCost> launch_costs(const Plan& plan, const Program& program, int64_t sequences, int64_t tokens,
                                   int64_t context);

}  // namespace ingot
