// Packing of row-major weights into the strips that the CPU matmul kernels stream.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace ingot {

// A panel of `columns` (a multiple of 16) output features over all of k: [depth][columns] for f32 and f16,
// [depth / 2][columns][2] for bf16, where depth is k rounded up to 32: 16 columns by 32 k of bf16 are then one AMX
// tile, and one shift and one mask make floats of a pair. Missing rows and k are zeros.
int64_t panel_bytes(DType dtype, int64_t columns, int64_t k);
void pack_panel(DType dtype, const void* source, int64_t rows, int64_t k, int64_t columns, void* out);

}  // namespace ingot
