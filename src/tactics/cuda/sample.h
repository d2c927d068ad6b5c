// The choice of tokens on a GPU, and the ids that steps read.
#pragma once

#include "tactics/tactic.h"

namespace ingot {

const TacticSource* cuda_sample_source();
const TacticSource* cuda_next_ids_source();

}  // namespace ingot
