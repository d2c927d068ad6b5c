// Elementwise ops, conversions and ops that pick rows or columns on a GPU.
#pragma once

#include "ops/activation_function.h"
#include "tactics/tactic.h"

namespace ingot {

// Op is one of Add, Multiply, Scale, SoftCap, Activation, GatedActivation, Cast, PointwiseChain, Embedding, GatherRows,
// Slice.
template <class Op>
const TacticSource* cuda_pointwise_source();

// One step of a tactic that gates what a library has multiplied: y = function(gate) * up, with the arguments f32
// products [rows, n], gate before up, and y [rows, n / 2]. Other than a gated_activation it may round.
CompiledTactic gate_products(ActivationFunction function, const TensorType& products, const TensorType& y,
                             const Target& target);

}  // namespace ingot
