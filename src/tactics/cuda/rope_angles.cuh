// y[t, j] = FACTOR * cos(position * frequency), y[t, HALF + j] the same of the sine; the product is rounded to f32
// first.
#include "device/prelude.cuh"

extern "C" __global__ void __launch_bounds__(BLOCK)
    rope_angles(const int* positions, const float* frequencies, float* y, int tokens) {
  allow_next();
  const int at = blockIdx.x * BLOCK + threadIdx.x, token = at / HALF, j = at - token * HALF;
  wait_for_previous();
  if (token >= tokens) return;
  const float angle = __fmul_rn(float(positions[token]), frequencies[j]);
  float sine, cosine;
  sincosf(angle, &sine, &cosine);
  float* row = y + int64(token) * (2 * HALF);
  row[j] = cosine * FACTOR;
  row[HALF + j] = sine * FACTOR;
}
