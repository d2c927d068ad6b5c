// Tactics on a GPU whose arguments live on the host: for checks and conformance tests.
#pragma once

#include <memory>
#include <vector>

#include "device/cuda/device.h"
#include "tune/runner.h"

namespace ingot {

// What the kernels of a tactic are made with: its modules are compiled when they are first needed.
KernelSupport gpu_support(cuda::DevicePtr device, const CompiledTactic& tactic);

// Every argument is mirrored: what bind() names is copied to the device before the run and back after it.
class GpuRunner {
 public:
  GpuRunner(const Problem& problem, const CompiledTactic& tactic);

  // `bytes` of host memory for input or output `index`; outputs that continue a state share the state's memory.
  void bind(int index, std::byte* data, size_t bytes);
  void run();

 private:
  struct Mirror {
    std::byte* host;
    size_t bytes;
    cuda::Memory memory;
  };
  cuda::DevicePtr device_;
  cuda::Stream stream_;
  cuda::Memory scratch_;
  TacticRunner runner_;
  std::vector<Mirror> mirrors_;
};

}  // namespace ingot
