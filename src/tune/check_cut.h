// Smaller problems whose results are a part of a larger one's.
#pragma once

#include <vector>

#include "tune/check.h"

namespace ingot {

struct Cut {
  Problem problem;
  HostTensors inputs;
  // By output: element i of the cut's result is element indices[o][i] of the whole result.
  std::vector<std::vector<int64_t>> indices;
  std::string unchecked;  // why there is no cut, when the op or the size allows none
};

// All of it.
Cut whole(const Problem& problem, const Inputs& inputs);
// At most 64 elements, or a few rows; cheap at any size.
Cut sampled(const Problem& problem, const Inputs& inputs);

}  // namespace ingot
