#include "models/blocks/gated_mlp.h"

#include "ops/pointwise.h"

namespace ingot {

Value gated_product(ModelWriter& m, Value gate, Value up, const std::string& name, ActivationFunction function) {
  Value active = m.add(Activation{function}, {gate}, name + ".act_fn");
  return m.add(Multiply{}, {active, up}, name + ".gated");
}

Value gated_mlp(ModelWriter& m, Value x, const std::string& name, int64_t intermediate, ActivationFunction function,
                bool bias) {
  int64_t width = m.network.type(x).shape.back().constant();
  Value gate = m.linear(x, name + ".gate_proj", intermediate, bias);
  Value up = m.linear(x, name + ".up_proj", intermediate, bias);
  return m.linear(gated_product(m, gate, up, name, function), name + ".down_proj", width, bias);
}

}  // namespace ingot
