// The tactic source "cuda.gemm_sm90": ops/matmul.h on Hopper's matrix units, from 16 rows on (gemm_sm90.cuh).
#pragma once

#include "tactics/tactic.h"

namespace ingot {

const TacticSource* gemm_sm90_source();

}  // namespace ingot
