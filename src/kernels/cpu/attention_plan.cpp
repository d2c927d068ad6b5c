#include "kernels/cpu/attention_plan.h"

#include "kernels/cpu/attention_blocks.h"

namespace ingot {

namespace {

// Larger blocks leave at least so many, to be shared by threads.
constexpr int64_t kBlocksAtLeast = 8;

// Keys times rows of one block at most.
int64_t unit_cost(const SequencePlan& plan, const PlanLimits& limits) {
  const int64_t queries = std::min(plan.queries, plan.queries_per_block);
  const KeyRange range = seen_range(plan, plan.queries - queries, queries, limits.window);
  return (range.end - range.begin) * queries * limits.heads_per_kv;
}

}  // namespace

int64_t cut_into_tasks(std::span<SequencePlan> plans, const PlanLimits& limits) {
  int64_t total = 0;
  for (SequencePlan& plan : plans) {
    plan.queries_per_block = std::max<int64_t>(1, kMaxWideRows / limits.heads_per_kv);
    plan.blocks = (plan.queries + plan.queries_per_block - 1) / plan.queries_per_block;
    plan.queries_per_block *= std::clamp<int64_t>(plan.blocks / kBlocksAtLeast, 1, limits.most_rows / kMaxWideRows);
    plan.blocks = (plan.queries + plan.queries_per_block - 1) / plan.queries_per_block;
    if (plan.blocks == 1) plan.segments = segment_count(seen_range(plan, 0, plan.queries, limits.window));
    total += unit_cost(plan, limits) * plan.blocks * limits.kv_heads;
  }
  int64_t tasks = 0, partial = 0;
  for (SequencePlan& plan : plans) {
    // A block of more than half a thread's fair share would leave threads waiting for it.
    if (plan.blocks == 1 && plan.segments > 1 && unit_cost(plan, limits) * limits.threads * 2 > total &&
        limits.threads > 1) {
      plan.partial_floats = plan.queries * limits.heads_per_kv * (limits.v_stride + 2);
      const int64_t floats = plan.partial_floats * plan.segments * limits.kv_heads;
      plan.split = partial + floats <= limits.partial_floats;
      plan.first_partial = partial;
      if (plan.split) partial += floats;
    }
    plan.first_task = tasks;
    tasks += plan.tasks(limits.kv_heads);
  }
  return tasks;
}

}  // namespace ingot
