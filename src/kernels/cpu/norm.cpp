#include "kernels/cpu/op_kernel.h"
#include "kernels/cpu/rows.h"

namespace ingot {

void run(const RmsNorm& op, const VectorFunctions& functions, const Launch& launch) {
  const float *x = launch.arguments[0].as<float>(), *gamma = launch.arguments[1].as<float>();
  float* y = launch.arguments[2].as<float>();
  const int64_t size = row_size(launch.arguments[1]), rows = element_count(launch.arguments[0]) / size;
  for_each_row_range(launch, rows, size, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * size; i < end * size; i += size) functions.rms_norm(x + i, gamma, op.epsilon, y + i, size);
  });
}

void run(const LayerNorm& op, const VectorFunctions& functions, const Launch& launch) {
  const float *x = launch.arguments[0].as<float>(), *gamma = launch.arguments[1].as<float>();
  const float* beta = launch.arguments[2].as<float>();
  float* y = launch.arguments[3].as<float>();
  const int64_t size = row_size(launch.arguments[1]), rows = element_count(launch.arguments[0]) / size;
  for_each_row_range(launch, rows, size, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * size; i < end * size; i += size)
      functions.layer_norm(x + i, gamma, beta, op.epsilon, y + i, size);
  });
}

void run(const AddRmsNorm& op, const VectorFunctions& functions, const Launch& launch) {
  const float *a = launch.arguments[0].as<float>(), *b = launch.arguments[1].as<float>();
  const float* gamma = launch.arguments[2].as<float>();
  float *s = launch.arguments[3].as<float>(), *y = launch.arguments[4].as<float>();
  const int64_t size = row_size(launch.arguments[2]), rows = element_count(launch.arguments[0]) / size;
  for_each_row_range(launch, rows, 2 * size, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * size; i < end * size; i += size)
      functions.add_rms_norm(a + i, b + i, gamma, op.epsilon, s + i, y + i, size);
  });
}

void run(const AddLayerNorm& op, const VectorFunctions& functions, const Launch& launch) {
  const float *a = launch.arguments[0].as<float>(), *b = launch.arguments[1].as<float>();
  const float *gamma = launch.arguments[2].as<float>(), *beta = launch.arguments[3].as<float>();
  float *s = launch.arguments[4].as<float>(), *y = launch.arguments[5].as<float>();
  const int64_t size = row_size(launch.arguments[2]), rows = element_count(launch.arguments[0]) / size;
  for_each_row_range(launch, rows, 2 * size, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * size; i < end * size; i += size) {
      functions.add(a + i, b + i, s + i, size);
      functions.layer_norm(s + i, gamma, beta, op.epsilon, y + i, size);
    }
  });
}

}  // namespace ingot
