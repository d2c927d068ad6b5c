// Normalizations on a GPU.
#pragma once

#include "tactics/tactic.h"

namespace ingot {

// Op is one of RmsNorm, LayerNorm, AddRmsNorm, AddLayerNorm.
template <class Op>
const TacticSource* cuda_norm_source();

}  // namespace ingot
