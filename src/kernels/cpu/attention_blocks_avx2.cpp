#include "kernels/cpu/attention_blocks-inl.h"

static_assert(HWY_TARGET == HWY_AVX2);

namespace ingot {
constinit const AttentionFunctions kAttentionFunctionsAvx2 = kFunctions;
}  // namespace ingot
