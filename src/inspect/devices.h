// What this machine has.
#pragma once

#include <cstdint>

#include "base/json.h"

namespace ingot {

Json describe_devices();

// Memory that new work can take, page cache included.
int64_t available_memory_bytes();

}  // namespace ingot
