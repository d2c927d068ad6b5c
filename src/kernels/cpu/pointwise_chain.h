// The kernel of ops/pointwise_chain.h: its steps over pieces of the rows that stay in the L1 cache, by the loops that
// the single ops use. Arguments: the inputs, then y; each f32, bf16 or f16. No scratch.
#pragma once

#include <memory>

#include "device/target.h"
#include "kernels/kernel.h"

namespace ingot {

template <CpuLevel level>
std::unique_ptr<Kernel> make_pointwise_chain(std::string_view parameters);

}  // namespace ingot
