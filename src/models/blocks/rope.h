// The rotary position embedding that a config asks for, in both key styles: `rope_theta`, `rope_scaling` and
// `partial_rotary_factor` at the top, or all of them inside `rope_parameters`.
#pragma once

#include <cstdint>

#include "base/json.h"
#include "models/blocks/config.h"
#include "models/model.h"
#include "tensor/recipe.h"

namespace ingot {

struct Rotation {
  Recipe frequencies;          // f32 [rotary_dim / 2]
  float attention_factor = 1;  // multiplies cosines and sines
};

// What a rotation depends on besides its own parameters.
struct RopeContext {
  int64_t head_size = 0;
  int64_t max_positions = 0;       // what the model was made for
  int64_t max_seq_len = 0;         // what the engine is made for
  int64_t original_positions = 0;  // top-level original_max_position_embeddings; 0: none
  bool partial = false;            // whether the architecture can rotate a part of each head
};
RopeContext rope_context(const Json& config, const DecoderSizes& sizes, const ModelOptions& options);

// The parameters of every layer in the newer form, with rope_type, rope_theta and partial_rotary_factor present.
Json rope_parameters(const Json& config, double default_theta = 10000);
// The same for parameters that stand on their own.
Json completed_rope(Json parameters, double theta, double partial_rotary_factor = 1);

// Types default, linear, llama3, longrope, yarn, and dynamic as long as max_seq_len does not exceed the model's own
// limit. The others, and unknown parameters, are refused by name.
Rotation make_rotation(const Json& parameters, const RopeContext& context);

}  // namespace ingot
