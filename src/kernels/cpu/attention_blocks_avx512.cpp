// g++ 12 takes the undefined operands inside its own intrinsics for mistakes.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include "kernels/cpu/attention_blocks-inl.h"

static_assert(HWY_TARGET == HWY_AVX3);

namespace ingot {
constinit const AttentionFunctions kAttentionFunctionsAvx512 = kFunctions;
}  // namespace ingot
