#include <immintrin.h>
#include <stdint.h>

#include "kernels/cpu/matmul_task.h"

#define INGOT_INLINE inline __attribute__((always_inline))
#define INGOT_LAMBDA_INLINE __attribute__((always_inline))

namespace ingot::avx512 {
namespace {

// Each builds on the one before.
#include "kernels/cpu/matmul_vector_avx512.h"

#include "kernels/cpu/matmul_weights.h"

#include "kernels/cpu/matmul_finish.h"

#include "kernels/cpu/matmul_body.h"

}  // namespace

const MatmulCode kMatmulCode = {V::kStreamRows, kStreamDirectRows, accepts_tile, pack_x, stream, gemm};

}  // namespace ingot::avx512
