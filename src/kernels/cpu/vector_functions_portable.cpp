// Without instruction-set flags Highway compiles to single-element vectors, on every machine.
#define HWY_COMPILE_ONLY_SCALAR
#include "kernels/cpu/vector_functions-inl.h"

static_assert(HWY_TARGET == HWY_SCALAR);

namespace ingot {
constinit const VectorFunctions kVectorFunctionsPortable = kFunctions;
}  // namespace ingot
