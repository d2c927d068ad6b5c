// Matmuls on NVIDIA GPUs by our own device code.
#pragma once

#include "tactics/tactic.h"

namespace ingot {

// For each row of x a block's share of the weights passes by once: 1 to 4 rows.
const TacticSource* cuda_gemv_source();         // through shared memory; sm_90 and later
const TacticSource* cuda_gemv_direct_source();  // to registers; any GPU
// 16-bit weights past the tensor cores, for up to some 64 rows; sm_90 and later.
const TacticSource* cuda_skinny_source();
// Tiles for any sizes: 16-bit weights on the tensor cores; everything in true f32.
const TacticSource* cuda_matmul_mma_source();
const TacticSource* cuda_matmul_source();

}  // namespace ingot
