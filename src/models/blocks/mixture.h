// Mixture of experts: a router picks top_k gated MLPs for every token.
#pragma once

#include "models/blocks/model_writer.h"

namespace ingot {

struct MixtureSettings {
  int64_t experts = 1, top_k = 1;
  int64_t intermediate = 1;  // of one expert
  bool normalize = true;     // whether the weights of the chosen experts sum to one
  ActivationFunction function = ActivationFunction::kSilu;
};

// The names of an expert's projections in checkpoints that store each expert on its own.
struct ExpertNames {
  std::string_view gate, up, down;
};

// The router is name.gate. The experts are name.experts.N.{gate, up, down}, or fused: name.experts.gate_up_proj
// [experts, 2 * intermediate, hidden] and name.experts.down_proj [experts, hidden, intermediate].
Value mixture(ModelWriter& m, Value x, const std::string& name, const MixtureSettings& settings, ExpertNames names);

}  // namespace ingot
