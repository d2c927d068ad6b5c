#include <cmath>
#include <cstring>

#include "kernels/cpu/op_kernel.h"
#include "kernels/cpu/rows.h"

namespace ingot {

// Runs once per step for all layers, so the double-precision library functions are cheap enough; they stay accurate at
// any position.
void run(const RopeAngles& op, const VectorFunctions&, const Launch& launch) {
  constexpr int64_t kCost = 64;
  const int32_t* positions = launch.arguments[0].as<int32_t>();
  const float* frequencies = launch.arguments[1].as<float>();
  float* y = launch.arguments[2].as<float>();
  const int64_t half = launch.arguments[1].size[0];
  for_each_row_range(launch, launch.arguments[0].size[0], half * kCost, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float *cosines = y + i * 2 * half, *sines = cosines + half;
      for (int64_t j = 0; j < half; ++j) {
        const float angle = static_cast<float>(static_cast<double>(positions[i]) * frequencies[j]);
        cosines[j] = static_cast<float>(std::cos(static_cast<double>(angle)) * op.attention_factor);
        sines[j] = static_cast<float>(std::sin(static_cast<double>(angle)) * op.attention_factor);
      }
    }
  });
}

void run(const Rope& op, const VectorFunctions& functions, const Launch& launch) {
  const float *x = launch.arguments[0].as<float>(), *angles = launch.arguments[1].as<float>();
  float* y = launch.arguments[2].as<float>();
  const int64_t size = row_size(launch.arguments[0]), rotated = row_size(launch.arguments[1]);
  for_each_row_range(launch, launch.arguments[0].size[0], 2 * size, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t head = i * size; head < (i + 1) * size; head += op.head_size) {
        functions.rotate(x + head, angles + i * rotated, rotated / 2, op.interleaved, y + head);
        if (x != y)
          std::memcpy(y + head + rotated, x + head + rotated,
                      static_cast<size_t>(op.head_size - rotated) * sizeof(float));
      }
    }
  });
}

}  // namespace ingot
