#include "kernels/cpu/pack.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/matmul_task.h"

namespace ingot {

namespace {

// T is a step of one column: a pair of bf16, or one f16 or f32. Blocks of 16 steps, because writing column after column
// over all of k would touch every line of the panel `columns` times from far apart.
template <class T>
void pack_steps(const char* source, int64_t row_bytes, int64_t rows, int64_t steps, int64_t columns, T* out) {
  constexpr int64_t kBlock = 16;
  for (int64_t first = 0; first < steps; first += kBlock) {
    int64_t end = std::min(first + kBlock, steps);
    for (int64_t row = 0; row < rows; ++row) {
      T values[kBlock];
      std::memcpy(values, source + row * row_bytes + first * static_cast<int64_t>(sizeof(T)),
                  static_cast<size_t>(end - first) * sizeof(T));
      for (int64_t step = first; step < end; ++step) out[step * columns + row] = values[step - first];
    }
  }
}

}  // namespace

int64_t panel_bytes(DType dtype, int64_t columns, int64_t k) {
  int64_t depth = (k + kPackedDepth - 1) / kPackedDepth * kPackedDepth;
  return columns * depth * size_of(dtype);
}

void pack_panel(DType dtype, const void* source, int64_t rows, int64_t k, int64_t columns, void* out) {
  auto* bytes = static_cast<const char*>(source);
  int64_t row_bytes = k * size_of(dtype);
  if (rows < columns || k % kPackedDepth != 0) std::memset(out, 0, static_cast<size_t>(panel_bytes(dtype, columns, k)));
  if (dtype == DType::kF32) return pack_steps(bytes, row_bytes, rows, k, columns, static_cast<uint32_t*>(out));
  if (dtype == DType::kF16) return pack_steps(bytes, row_bytes, rows, k, columns, static_cast<uint16_t*>(out));
  pack_steps(bytes, row_bytes, rows, k / 2, columns, static_cast<uint32_t*>(out));
  if (k % 2 == 0) return;
  for (int64_t row = 0; row < rows; ++row)
    std::memcpy(static_cast<uint16_t*>(out) + (k / 2 * columns + row) * 2, bytes + row * row_bytes + (k - 1) * 2, 2);
}

}  // namespace ingot
