// The ids that a step begins with: those of the host, and for -(seat + 1) the token that was chosen last for the seat.
#include "device/prelude.cuh"

extern "C" __global__ void __launch_bounds__(BLOCK) next_ids(const int* ids, const int* last, int* result, int tokens) {
  allow_next();
  const int i = blockIdx.x * BLOCK + threadIdx.x;
  wait_for_previous();
  if (i >= tokens) return;
  const int id = ids[i];
  result[i] = id < 0 ? last[-id - 1] : id;
}
