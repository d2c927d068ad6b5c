// Checks that a network is well formed.
#pragma once

#include "ir/network.h"

namespace ingot {

// Afterwards: nodes stand in topological order; every type is what its op infers; names of leaves, outputs, groups and
// dimensions are unique; outputs exist; every version of a state has at most one successor (the op result that
// continues it, AnyOp::aliased_input), is not read after that, and its final version is the output named like the
// state. Throws an Error that names the node otherwise: the network was written wrongly by hand, by a model or by a
// pass.
void verify(const Network& network);

}  // namespace ingot
