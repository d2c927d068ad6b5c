// Tactic sources for ops/matmul.h on the CPU, one per instruction set.
#pragma once

#include "tactics/tactic.h"

namespace ingot {

const TacticSource* matmul_portable_source();
const TacticSource* matmul_avx2_source();
const TacticSource* matmul_avx512_source();
// These round x to bf16 and are offered for bf16 weights only.
const TacticSource* matmul_avx512_bf16_source();
const TacticSource* matmul_amx_source();

}  // namespace ingot
