// Rotations and writing to the KV cache on a GPU.
#pragma once

#include "tactics/tactic.h"

namespace ingot {

// Op is one of Rope, KvWrite, RopeKvWrite.
template <class Op>
const TacticSource* cuda_rope_source();
const TacticSource* cuda_rope_angles_source();

}  // namespace ingot
