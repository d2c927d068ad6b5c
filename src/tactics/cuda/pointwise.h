// Elementwise ops, conversions and ops that pick rows or columns on a GPU.
#pragma once

#include "tactics/tactic.h"

namespace ingot {

// Op is one of Add, Multiply, Scale, SoftCap, Activation, GatedActivation, Cast, PointwiseChain, Embedding, GatherRows,
// Slice.
template <class Op>
const TacticSource* cuda_pointwise_source();

}  // namespace ingot
