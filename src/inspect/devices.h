// What this machine has.
#pragma once

#include "base/json.h"

namespace ingot {

Json describe_devices();

}  // namespace ingot
