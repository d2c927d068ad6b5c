#include "build/memory_plan.h"

#include <algorithm>
#include <numeric>

namespace ingot {

MemoryPlan plan_memory(const std::vector<Lifetime>& buffers) {
  MemoryPlan plan;
  plan.offsets.resize(buffers.size());
  std::vector<size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return buffers[a].bytes > buffers[b].bytes; });
  std::vector<size_t> placed;  // by rising offset
  for (size_t index : order) {
    const Lifetime& buffer = buffers[index];
    uint64_t offset = 0;
    for (size_t other : placed) {
      const Lifetime& taken = buffers[other];
      if (taken.last_step < buffer.first_step || buffer.last_step < taken.first_step) continue;
      if (plan.offsets[other] >= offset + buffer.bytes) break;
      offset = std::max(offset, (plan.offsets[other] + taken.bytes + 63) / 64 * 64);
    }
    plan.offsets[index] = offset;
    plan.arena_bytes = std::max(plan.arena_bytes, (offset + buffer.bytes + 63) / 64 * 64);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), index,
                                   [&](size_t a, size_t b) { return plan.offsets[a] < plan.offsets[b]; }),
                  index);
  }
  return plan;
}

}  // namespace ingot
