// The choice of experts on a GPU.
#pragma once

#include "tactics/tactic.h"

namespace ingot {

const TacticSource* cuda_route_source();

}  // namespace ingot
