// The sources of the CPU attention kernels.
#pragma once

#include "tactics/tactic.h"

namespace ingot {

const TacticSource* attention_source(CpuLevel level);

}  // namespace ingot
