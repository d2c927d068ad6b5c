// The exact results of a problem, and how far a right result may be from each of them.
#pragma once

#include <vector>

#include "tactics/tactic.h"

namespace ingot {

struct Bounded {
  HostTensors values;                       // exact; where the bound is zero, rounded to the dtype
  std::vector<std::vector<double>> bounds;  // by output and element
};

// `inputs` fit the problem and are valid. The rules are those of check.h.
Bounded evaluate_bounded(const Problem& problem, const HostTensors& inputs, DType compute);

}  // namespace ingot
