#include "base/error.h"
#include "device/cuda/device.h"

namespace ingot::cuda {

Memory::Memory(DevicePtr device, uint64_t bytes, std::string_view what) : device_(std::move(device)) {
  if (bytes == 0) return;
  device_->make_current();
  CUdeviceptr address = 0;
  const CUresult result = device_->driver().cuMemAlloc_v2(&address, bytes);
  if (result == CUDA_ERROR_OUT_OF_MEMORY)
    fail(ErrorCode::kDoesNotFit, "{} needs {} of GPU memory; {} are free on {}", what,
         print_bytes(static_cast<double>(bytes)), print_bytes(static_cast<double>(device_->free_bytes())),
         device_->facts().name);
  device_->check(result, what);
  data_ = reinterpret_cast<std::byte*>(address);
  size_ = bytes;
}

Memory::~Memory() {
  if (!data_) return;
  device_->try_make_current();
  device_->driver().cuMemFree_v2(reinterpret_cast<CUdeviceptr>(data_));
}

PinnedMemory::PinnedMemory(DevicePtr device, uint64_t bytes) : device_(std::move(device)) {
  if (bytes == 0) return;
  device_->make_current();
  void* address = nullptr;
  device_->check(device_->driver().cuMemHostAlloc(&address, bytes, 0),
                 format("pinning {} of host memory", print_bytes(static_cast<double>(bytes))));
  data_ = static_cast<std::byte*>(address);
  size_ = bytes;
}

PinnedMemory::~PinnedMemory() {
  if (!data_) return;
  device_->try_make_current();
  device_->driver().cuMemFreeHost(data_);
}

}  // namespace ingot::cuda
