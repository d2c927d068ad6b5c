#include "tune/gpu_runner.h"

#include <algorithm>

#include "base/error.h"

namespace ingot {

KernelSupport gpu_support(cuda::DevicePtr device, const CompiledTactic& tactic) {
  return {std::move(device), [modules = tactic.modules](std::string_view name) -> std::span<const std::byte> {
            for (const DeviceModule& module : modules)
              if (module.name() == name) return *compile_module(module);  // kept by the compiler for this process
            fail(ErrorCode::kRuntime, "a step names the module {}, which its tactic does not list", name);
          }};
}

GpuRunner::GpuRunner(const Problem& problem, const CompiledTactic& tactic)
    : device_(cuda::Device::open()),
      stream_(device_),
      scratch_(device_, static_cast<uint64_t>(std::max<int64_t>(tactic.scratch_bytes, 256)), "scratch memory"),
      runner_(problem, tactic, scratch_.data(), gpu_support(device_, tactic)) {
  stream_.fill(scratch_.data(), 0xff, scratch_.size());  // nobody may rely on what is there
}

void GpuRunner::bind(int index, std::byte* data, size_t bytes) {
  for (const Mirror& mirror : mirrors_)
    if (mirror.host == data) return runner_.bind(index, mirror.memory.data());
  const Mirror& mirror =
      mirrors_.emplace_back(Mirror{data, bytes, cuda::Memory(device_, std::max<size_t>(bytes, 16), "a tensor")});
  stream_.upload(mirror.memory.data(), data, bytes);
  runner_.bind(index, mirror.memory.data());
}

void GpuRunner::run() {
  runner_.enqueue(stream_);
  stream_.synchronize();
  for (const Mirror& mirror : mirrors_) stream_.download(mirror.host, mirror.memory.data(), mirror.bytes);
  stream_.synchronize();
}

}  // namespace ingot
