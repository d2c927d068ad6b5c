// The limit of the kernel rope_kv_write, which holds one key head on the stack.
#pragma once

#include <cstdint>

namespace ingot {

constexpr int64_t kMaxKvWriteHeadSize = 1024;

}  // namespace ingot
