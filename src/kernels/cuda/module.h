// The launcher of an engine's own device code: "cuda.module" steps.
#pragma once

#include "kernels/kernel.h"

namespace ingot {

// `parameters` is a ModuleLaunch (module_launch.h).
std::unique_ptr<Kernel> make_module_kernel(std::string_view parameters, const KernelSupport& support);

}  // namespace ingot
