#include "kernels/cpu/vector_functions-inl.h"

static_assert(HWY_TARGET == HWY_AVX3);

namespace ingot {
constinit const VectorFunctions kVectorFunctionsAvx512 = kFunctions;
}  // namespace ingot
