// Tactic sources for ExpertMlp on the CPU, one per instruction set.
#pragma once

#include "tactics/tactic.h"

namespace ingot {

const TacticSource* expert_mlp_portable_source();
const TacticSource* expert_mlp_avx2_source();
const TacticSource* expert_mlp_avx512_source();

}  // namespace ingot
