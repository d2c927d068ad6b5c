// Mixtures of experts on a GPU.
#pragma once

#include "tactics/tactic.h"

namespace ingot {

// For few tokens: reads the weights of the chosen experts once. Any shapes.
const TacticSource* cuda_expert_mlp_rows_source();
// For many: sorts tokens by expert and multiplies tiles. Weights of the activations' dtype.
const TacticSource* cuda_expert_mlp_tiles_source();

}  // namespace ingot
