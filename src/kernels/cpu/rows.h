// How row kernels see their arguments and share rows between threads.
#pragma once

#include <algorithm>

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

// f(first_row, end_row) over `rows` rows that each cost about as much as `row_elements` cheap elements.
template <class F>
void for_each_row_range(const Launch& launch, int64_t rows, int64_t row_elements, F f) {
  const int64_t least = kGrainElements / std::max<int64_t>(1, row_elements);
  launch.threads->parallel_for(rows, std::max({int64_t{1}, least, rows / (kPiecesPerThread * launch.threads->size())}),
                               f);
}

}  // namespace ingot
