// How one attention step is cut into tasks.
//
// A block is some queries of a sequence with all heads of one kv head: up to kMaxWideRows rows, or several times as
// many where there are many blocks and the kernel gains by it. Each block walks its keys alone. The keys of a sequence
// of one block (a decode, a short chunk) are cut into segments at fixed positions; the results of segments are folded
// together in order, by one thread or, when that would leave other threads idle, after tasks of one segment each. The
// arithmetic is the same either way, so results do not depend on the number of threads, nor on what else is in the
// step.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

namespace ingot {

constexpr int64_t kSegment = 256;  // positions

struct SequencePlan {
  int64_t first_token = 0, queries = 0;  // in the packed list
  int64_t first_position = 0;            // of the first query
  int64_t context_start = 0;             // position of the first slot of the first page
  const int32_t* pages = nullptr;
  int64_t queries_per_block = 0, blocks = 0;
  bool split = false;    // one task per segment and kv head, else per block and kv head
  int64_t segments = 1;  // of a sequence of one block
  int64_t first_task = 0;
  int64_t first_partial = 0;   // floats into the partial results
  int64_t partial_floats = 0;  // of one segment and kv head

  int64_t tasks(int64_t kv_heads) const { return kv_heads * (split ? segments : blocks); }
};

// The positions that a block or segment reads: [begin, end).
struct KeyRange {
  int64_t begin = 0, end = 0;
};

// What `queries` queries from `first` on see together.
inline KeyRange seen_range(const SequencePlan& plan, int64_t first, int64_t queries, int64_t window) {
  const int64_t position = plan.first_position + first;
  return {std::max(plan.context_start, position - window + 1), position + queries};
}

inline KeyRange segment_range(KeyRange whole, int64_t segment) {
  const int64_t begin = (whole.begin / kSegment + segment) * kSegment;
  return {std::max(begin, whole.begin), std::min(begin + kSegment, whole.end)};
}

inline int64_t segment_count(KeyRange whole) { return (whole.end - 1) / kSegment - whole.begin / kSegment + 1; }

// What the cutting depends on besides the sequences.
struct PlanLimits {
  int64_t kv_heads = 1, heads_per_kv = 1, v_stride = 1, window = 0, threads = 1, partial_floats = 0, most_rows = 0;
};

// Fills in everything from queries_per_block on; returns the number of tasks.
int64_t cut_into_tasks(std::span<SequencePlan> plans, const PlanLimits& limits);

}  // namespace ingot
