#include "kernels/kernel.h"

#include "base/error.h"

namespace ingot {

std::unique_ptr<Kernel> make_kernel(std::string_view name, std::string_view parameters, const KernelSupport& support) {
  Scope scope(format("kernel {}", name));
  for (const KernelEntry& entry : kernel_list())
    if (entry.name == name) return entry.make ? entry.make(parameters) : entry.make_on_gpu(parameters, support);
  fail(ErrorCode::kIncompatible, "this build of ingot has no such kernel; rebuild the engine with it");
}

}  // namespace ingot
