// How row kernels see their arguments and share rows between threads.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>

#include "kernels/kernel.h"

namespace ingot {

inline int64_t element_count(const Argument& argument) {
  int64_t count = 1;
  for (int axis = 0; axis < argument.rank; ++axis) count *= argument.size[static_cast<size_t>(axis)];
  return count;
}

inline int64_t row_size(const Argument& argument) {
  return argument.rank == 0 ? 1 : argument.size[static_cast<size_t>(argument.rank - 1)];
}

// A parallel region costs about 1.5 us, the time of some thousand cheap elements: smaller pieces stay on one thread.
constexpr int64_t kGrainElements = 8192;
// Longer pieces are streams that the hardware foresees; with so many for each thread, none waits long for another.
constexpr int64_t kPiecesPerThread = 16;

// Products leave so many rows to the same thread while there is work in them. Steps that do so as well find in its
// cache what the one before left there.
constexpr int64_t kNearRows = 256, kMostNearPieces = 16;

// f(first_row, end_row) over `rows` rows that each cost about as much as `row_elements` cheap elements.
template <class F>
void for_each_row_range(const Launch& launch, int64_t rows, int64_t row_elements, F f) {
  ThreadPool& threads = *launch.threads;
  const int64_t least = kGrainElements / std::max<int64_t>(1, row_elements);
  const int64_t grain = std::max({int64_t{1}, least, rows / (kPiecesPerThread * threads.size())});
  const int64_t pieces = (rows + kNearRows - 1) / kNearRows;
  if (threads.size() == 1 || pieces < 2 || pieces > kMostNearPieces) return threads.parallel_for(rows, grain, f);
  struct alignas(64) Counter {
    std::atomic<int64_t> next{0};
  };
  std::array<Counter, kMostNearPieces> counters;
  threads.run([&](int thread) {
    for (int64_t i = 0; i < pieces; ++i) {
      const int64_t piece = (thread + i) % pieces, first = piece * kNearRows, end = std::min(rows, first + kNearRows);
      std::atomic<int64_t>& next = counters[static_cast<size_t>(piece)].next;
      for (int64_t begin; (begin = first + next.fetch_add(grain, std::memory_order_relaxed)) < end;)
        f(begin, std::min(begin + grain, end));
    }
  });
}

}  // namespace ingot
