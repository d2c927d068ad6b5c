// Brings the weights of an engine file to a GPU.
#pragma once

#include <future>
#include <memory>

#include "device/cuda/device.h"
#include "plan/engine_file.h"

namespace ingot {

// Brings the whole weight section to `target` in device memory while the caller goes on. Several threads read blocks of
// the file into pinned memory, check them (with `verify`) and copy them, side by side. `path` is the file that `file`
// was opened from; both must outlive this.
class WeightUpload {
 public:
  WeightUpload(const cuda::DevicePtr& device, const EngineFile& file, const Path& path, std::byte* target, bool verify);
  // Gives up what has not been copied.
  ~WeightUpload();

  // Waits for the last byte. Throws what went wrong: an Error with ErrorCode::kIncompatible names a damaged block.
  void finish();

 private:
  class Readers;
  std::unique_ptr<Readers> readers_;
  std::future<void> done_;
};

}  // namespace ingot
