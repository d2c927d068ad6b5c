// Tactic sources for ops/matmul.h on the CPU, one per instruction set.
#pragma once

#include "tactics/tactic.h"

namespace ingot {

const TacticSource* matmul_portable_source();
const TacticSource* matmul_avx2_source();
const TacticSource* matmul_avx512_source();

}  // namespace ingot
