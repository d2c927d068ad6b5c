// The tactic source for ops/matmul.h by cuBLASLt.
#pragma once

#include "tactics/tactic.h"

namespace ingot {

// Offers what the library's heuristics recommend, and a few of the algorithms that they list next, pinned. The
// gate of a gated problem is a kernel of our own behind each. Only problems that one of this project's own kernels
// solves too: that kernel goes with every step as its fallback.
const TacticSource* cublaslt_matmul_source();

}  // namespace ingot
