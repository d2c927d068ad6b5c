#include "build/memory_plan.h"

#include <gtest/gtest.h>

#include <random>

namespace ingot {
namespace {

void expect_disjoint(const std::vector<Lifetime>& buffers, const MemoryPlan& plan) {
  for (size_t a = 0; a < buffers.size(); ++a) {
    EXPECT_EQ(plan.offsets[a] % 64, 0u);
    EXPECT_LE(plan.offsets[a] + buffers[a].bytes, plan.arena_bytes);
    for (size_t b = 0; b < a; ++b) {
      bool together = buffers[a].first_step <= buffers[b].last_step && buffers[b].first_step <= buffers[a].last_step;
      bool overlap =
          plan.offsets[a] < plan.offsets[b] + buffers[b].bytes && plan.offsets[b] < plan.offsets[a] + buffers[a].bytes;
      EXPECT_FALSE(together && overlap) << a << " and " << b;
    }
  }
}

TEST(MemoryPlan, ReusesWhatIsNoLongerRead) {
  std::vector<Lifetime> chain = {{1000, 0, 1}, {1000, 1, 2}, {1000, 2, 3}, {1000, 3, 4}};
  MemoryPlan plan = plan_memory(chain);
  expect_disjoint(chain, plan);
  EXPECT_EQ(plan.arena_bytes, 2048u);  // two at a time
}

TEST(MemoryPlan, RandomLifetimesNeverOverlap) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<Lifetime> buffers(random() % 40);
    for (Lifetime& b : buffers) {
      b.bytes = random() % 5000;
      b.first_step = random() % 30;
      b.last_step = b.first_step + random() % 10;
    }
    expect_disjoint(buffers, plan_memory(buffers));
  }
}

}  // namespace
}  // namespace ingot
