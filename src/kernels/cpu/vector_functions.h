// The inner loops of the CPU kernels that work on rows of floats, compiled once per instruction set. Everything passes
// as plain pointers, so that no inline function compiled for a wide instruction set can leak into the rest of the
// program. All loops may work in place and take any count and alignment.
#pragma once

#include <cstdint>

#include "device/target.h"
#include "ops/activation_function.h"
#include "tensor/dtype.h"

namespace ingot {

struct VectorFunctions {
  void (*add)(const float* a, const float* b, float* y, int64_t count);
  void (*multiply)(const float* a, const float* b, float* y, int64_t count);
  void (*scale)(const float* x, float factor, float* y, int64_t count);
  void (*soft_cap)(const float* x, float cap, float* y, int64_t count);
  void (*activate)(ActivationFunction function, const float* x, float* y, int64_t count);
  void (*gate)(ActivationFunction function, const float* gate, const float* up, float* y, int64_t count);
  // y = a * a_factor + b * b_factor
  void (*blend)(const float* a, float a_factor, const float* b, float b_factor, float* y, int64_t count);
  // f32, bf16 and f16 to f32 and back, rounded to nearest even.
  void (*widen)(DType from, const void* x, float* y, int64_t count);
  void (*narrow)(DType to, const float* x, void* y, int64_t count);
  // To a place in memory, past the caches, that is aligned to 64 bytes; `count` is a multiple of 16. Others may read it
  // after end_stream.
  void (*stream)(const float* x, float* y, int64_t count);
  void (*end_stream)();
  // One row of `count` elements.
  void (*rms_norm)(const float* x, const float* gamma, float epsilon, float* y, int64_t count);
  // s = a + b, y = rms_norm(s); the rows behind a and b are prefetched.
  void (*add_rms_norm)(const float* a, const float* b, const float* gamma, float epsilon, float* s, float* y,
                       int64_t count);
  void (*layer_norm)(const float* x, const float* gamma, const float* beta, float epsilon, float* y, int64_t count);
  // The first 2 * half elements of one head; `angles` holds `half` cosines, then as many sines.
  void (*rotate)(const float* x, const float* angles, int64_t half, bool interleaved, float* y);
};

extern const VectorFunctions kVectorFunctionsPortable, kVectorFunctionsAvx2, kVectorFunctionsAvx512;

inline const VectorFunctions& vector_functions(CpuLevel level) {
  if (level >= CpuLevel::kAvx512) return kVectorFunctionsAvx512;
  return level == CpuLevel::kAvx2 ? kVectorFunctionsAvx2 : kVectorFunctionsPortable;
}

}  // namespace ingot
