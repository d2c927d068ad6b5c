#include "ops/rope.h"

#include <cmath>

#include "ops/typing.h"

namespace ingot {

Types RopeAngles::infer(const Types& inputs) const {
  check_input_count(inputs, 2, 2);
  const TensorType &positions = inputs[0], &frequencies = inputs[1];
  check_type(is_index_vector(positions), positions, "positions, i32[tokens],");
  bool fits = is_wide_float(frequencies.dtype) && frequencies.rank() == 1 && frequencies.is_constant();
  check_type(fits, frequencies, "frequencies, f32 of half the rotated size,");
  return {{DType::kF32, {positions.shape[0], Dim(multiplied(2, frequencies.shape[0].constant()))}, ""}};
}

HostTensors RopeAngles::evaluate(const HostTensors& inputs) const {
  const HostTensor &positions = inputs[0], &frequencies = inputs[1];
  int64_t tokens = positions.size(0), half = frequencies.size(0);
  HostTensor angles(TensorType{DType::kF32, {tokens, 2 * half}, ""});
  for (int64_t i = 0; i < tokens; ++i) {
    float position = static_cast<float>(positions.values[static_cast<size_t>(i)]);
    double* row = angles.values.data() + i * 2 * half;
    for (int64_t j = 0; j < half; ++j) {
      double angle = position * static_cast<float>(frequencies.values[static_cast<size_t>(j)]);
      row[j] = std::cos(angle) * attention_factor;
      row[half + j] = std::sin(angle) * attention_factor;
    }
  }
  return {angles};
}

Types Rope::infer(const Types& inputs) const {
  check_input_count(inputs, 2, 2);
  const TensorType &x = inputs[0], &angles = inputs[1];
  if (head_size <= 0) fail(ErrorCode::kRuntime, "found head_size = {} where a positive number is needed", head_size);
  check_type(is_float_matrix(x) && holds_groups_of(x, head_size), x,
             format("x, a float matrix [tokens, heads * {}],", head_size));
  bool fits = is_wide_float(angles.dtype) && angles.rank() == 2 && angles.shape[0] == x.shape[0] &&
              holds_groups_of(angles, 2) && angles.shape[1].constant() <= head_size;
  check_type(fits, angles, format("angles, f32[{}, r] with r even and at most {},", print(x.shape[0]), head_size));
  return {{x.dtype, x.shape, ""}};
}

HostTensors Rope::evaluate(const HostTensors& inputs) const {
  const HostTensor &x = inputs[0], &angles = inputs[1];
  int64_t tokens = x.size(0), width = x.size(1), half = angles.size(1) / 2;
  HostTensor y = x;
  for (int64_t i = 0; i < tokens; ++i) {
    const double *cosines = angles.values.data() + i * 2 * half, *sines = cosines + half;
    for (int64_t begin = 0; begin < width; begin += head_size) {
      double* head = y.values.data() + i * width + begin;
      for (int64_t j = 0; j < half; ++j) {
        double& first = interleaved ? head[2 * j] : head[j];
        double& second = interleaved ? head[2 * j + 1] : head[j + half];
        double a = first, b = second;
        first = a * cosines[j] - b * sines[j];
        second = b * cosines[j] + a * sines[j];
      }
    }
  }
  return {y};
}

}  // namespace ingot
