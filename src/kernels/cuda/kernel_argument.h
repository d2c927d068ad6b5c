// The arguments of a launch: the texts of ModuleLaunch::arguments, and the values they become.
#pragma once

#include <memory>
#include <string_view>

#include "device/cuda/device.h"
#include "kernels/kernel.h"

namespace ingot {

// Room for the largest argument, a tensor map.
struct alignas(64) ArgumentValue {
  std::byte bytes[128];
};

class KernelArgument {
 public:
  virtual ~KernelArgument() = default;
  // Writes the argument for this launch.
  virtual void write(const Launch& launch, const cuda::Device& device, ArgumentValue& value) const = 0;
};

// Throws an Error with ErrorCode::kIncompatible that says what was found and what is known.
std::unique_ptr<KernelArgument> parse_kernel_argument(std::string_view text);

}  // namespace ingot
