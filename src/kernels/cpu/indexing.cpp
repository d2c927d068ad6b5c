#include <cstring>

#include "kernels/cpu/op_kernel.h"
#include "kernels/cpu/rows.h"

namespace ingot {

// An id outside the table gives a zero row instead of a wild read.
void run(const Embedding&, const VectorFunctions& functions, const Launch& launch) {
  const int32_t* ids = launch.arguments[0].as<int32_t>();
  const Argument& table = launch.arguments[1];
  float* y = launch.arguments[2].as<float>();
  const int64_t vocabulary = table.size[0], size = table.size[1], row_bytes = size * size_of(table.dtype);
  for_each_row_range(launch, launch.arguments[0].size[0], size, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (ids[i] >= 0 && ids[i] < vocabulary)
        functions.widen(table.dtype, table.as<char>() + ids[i] * row_bytes, y + i * size, size);
      else
        std::memset(y + i * size, 0, static_cast<size_t>(size) * sizeof(float));
    }
  });
}

void run(const GatherRows&, const VectorFunctions&, const Launch& launch) {
  const Argument& x = launch.arguments[0];
  const int32_t* rows = launch.arguments[1].as<int32_t>();
  char* y = launch.arguments[2].as<char>();
  const int64_t size = row_size(x), row_bytes = size * size_of(x.dtype);
  for_each_row_range(launch, launch.arguments[1].size[0], size, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::memcpy(y + i * row_bytes, x.as<char>() + rows[i] * row_bytes, static_cast<size_t>(row_bytes));
  });
}

void run(const Slice& op, const VectorFunctions&, const Launch& launch) {
  const Argument& x = launch.arguments[0];
  char* y = launch.arguments[1].as<char>();
  const int64_t element_bytes = size_of(x.dtype), x_bytes = x.size[1] * element_bytes;
  const int64_t y_bytes = (op.end - op.begin) * element_bytes;
  for_each_row_range(launch, x.size[0], op.end - op.begin, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::memcpy(y + i * y_bytes, x.as<char>() + i * x_bytes + op.begin * element_bytes, static_cast<size_t>(y_bytes));
  });
}

}  // namespace ingot
