// Brings the weights of an engine file to a GPU.
#pragma once

#include "device/cuda/device.h"
#include "plan/engine_file.h"

namespace ingot {

// The whole weight section in one piece of device memory. Several threads read blocks of the file into pinned memory,
// check them (with `verify`: an Error with ErrorCode::kIncompatible names a damaged block) and copy them, side by side.
// `path` is the file that `file` was opened from.
cuda::Memory upload_weights(const cuda::DevicePtr& device, const EngineFile& file, const Path& path, bool verify);

}  // namespace ingot
