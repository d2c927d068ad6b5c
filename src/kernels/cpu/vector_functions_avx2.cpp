#include "kernels/cpu/vector_functions-inl.h"

static_assert(HWY_TARGET == HWY_AVX2);

namespace ingot {
constinit const VectorFunctions kVectorFunctionsAvx2 = kFunctions;
}  // namespace ingot
