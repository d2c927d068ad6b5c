// Parts of a run's outputs on their way to the host, while later runs go on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "device/cuda/device.h"

namespace ingot {

class RunsUnderWay;

struct OutputPart {
  size_t output = 0;  // in Plan::outputs
  uint64_t offset = 0, bytes = 0;
};

// Filled by ExecutionContext::read_back. May be used again once it was waited for.
class Readback {
 public:
  // Of a context on this device; null: the CPU.
  explicit Readback(cuda::DevicePtr device);
  // Waits until the parts are there, that is until the run behind which they were asked for has ended; throws what went
  // wrong on the device, with the programs of the runs that may have failed.
  void wait() const;
  // Valid after wait(), until the next use.
  std::span<const std::byte> part(size_t i) const { return {data() + offsets_[i], offsets_[i + 1] - offsets_[i]}; }

  // For machines: room for these parts one after the other; a mark that they are on their way.
  std::byte* make_room(std::span<const OutputPart> parts);
  void mark(const cuda::Stream& stream, std::shared_ptr<RunsUnderWay> runs);

 private:
  const std::byte* data() const { return device_ ? pinned_.data() : memory_.data(); }

  cuda::DevicePtr device_;
  std::unique_ptr<cuda::Event> arrived_;
  std::shared_ptr<RunsUnderWay> runs_;
  uint64_t run_ = 0;
  cuda::PinnedMemory pinned_;
  std::vector<std::byte> memory_;
  std::vector<uint64_t> offsets_ = {0};
};

}  // namespace ingot
