#include "runtime/readback.h"

#include <bit>

#include "runtime/runs_under_way.h"

namespace ingot {

Readback::Readback(cuda::DevicePtr device) : device_(std::move(device)) {
  if (device_) arrived_ = std::make_unique<cuda::Event>(device_);
}

void Readback::wait() const {
  if (!runs_) return;
  runs_->name_failures([&] { arrived_->synchronize(); });
  runs_->ended(run_);
}

void Readback::mark(const cuda::Stream& stream, std::shared_ptr<RunsUnderWay> runs) {
  arrived_->record(stream);
  runs_ = std::move(runs);
  run_ = runs_->last();
}

std::byte* Readback::make_room(std::span<const OutputPart> parts) {
  offsets_.assign(1, 0);
  for (const OutputPart& part : parts) offsets_.push_back(offsets_.back() + part.bytes);
  uint64_t bytes = std::bit_ceil(std::max<uint64_t>(offsets_.back(), 256));
  if (!device_) {
    memory_.resize(bytes);
    return memory_.data();
  }
  if (pinned_.size() < bytes) pinned_ = cuda::PinnedMemory(device_, bytes);
  return pinned_.data();
}

}  // namespace ingot
