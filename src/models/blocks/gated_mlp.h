// down(function(gate(x)) * up(x)): the MLP of most decoders.
#pragma once

#include "models/blocks/model_writer.h"

namespace ingot {

// The projections are name.gate_proj, name.up_proj and name.down_proj.
Value gated_mlp(ModelWriter& m, Value x, const std::string& name, int64_t intermediate, ActivationFunction function,
                bool bias = false);

// The part after the first two projections.
Value gated_product(ModelWriter& m, Value gate, Value up, const std::string& name, ActivationFunction function);

}  // namespace ingot
