// Places buffers that live at different times into one arena.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ingot {

struct Lifetime {
  uint64_t bytes = 0;
  size_t first_step = 0, last_step = 0;  // inclusive
};

struct MemoryPlan {
  std::vector<uint64_t> offsets;  // multiples of 64; buffers that live at the same time do not overlap
  uint64_t arena_bytes = 0;
};

// Largest buffers first, each at the lowest offset that is free during its life.
MemoryPlan plan_memory(const std::vector<Lifetime>& buffers);

}  // namespace ingot
