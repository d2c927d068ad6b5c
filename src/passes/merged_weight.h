// Several weights as one.
#pragma once

#include "ir/network.h"

namespace ingot {

// "layers.0.mlp.gate_proj-up_proj.weight" for "layers.0.mlp.gate_proj.weight" and "layers.0.mlp.up_proj.weight".
std::string merged_name(const std::vector<const Node*>& weights);

// Their recipes one after the other along axis 0, and the type of that. Neighbouring slices of one tensor become one
// slice: a checkpoint that stores the parts together is read as it stands.
Recipe merged_recipe(const std::vector<const Node*>& weights);
TensorType merged_type(const std::vector<const Node*>& weights);

// Why they cannot be merged (dtype, rank, sizes of other axes, not weights); empty: they can.
std::string merge_obstacle(const std::vector<const Node*>& weights);

}  // namespace ingot
