// Random typed networks that hold what the passes look for, and near misses of it.
#pragma once

#include "ir/network.h"

namespace ingot::testing {

// Follows from `seed` alone; verified.
Network random_network(uint64_t seed);

}  // namespace ingot::testing
