// Tests that need a GPU skip with the reason where there is none.
#pragma once

#include <string>

#include "device/cuda/device.h"

namespace ingot {

inline const std::string& gpu_missing() {
  static const std::string missing = cuda::Device::missing();
  return missing;
}

}  // namespace ingot
