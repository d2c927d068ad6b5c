// Code that the runtime can launch. A kernel is made once from its parameter text and then run many times; running
// allocates nothing. A CPU kernel has done its work when run() returns and does not throw; a CUDA kernel has enqueued
// it and throws an Error when the driver refuses.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "base/thread_pool.h"
#include "ops/op.h"
#include "tensor/dtype.h"

namespace ingot {

namespace cuda {
class Device;
class Stream;
}  // namespace cuda

// One tensor as a kernel sees it at a run: actual sizes, memory in the layout that the tactic asked for.
struct Argument {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int rank = 0;
  std::array<int64_t, 4> size{};

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

struct Launch {
  std::span<const Argument> arguments;  // in the order of the step's buffers
  std::byte* scratch = nullptr;         // 64-byte aligned; as many bytes as the tactic asked for
  ThreadPool* threads = nullptr;        // for CPU kernels
  cuda::Stream* stream = nullptr;       // for CUDA kernels
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void run(const Launch& launch) const = 0;
  // What a run computes, its arguments being the inputs and then the results. Empty: the kernel does not know, as
  // device code does not.
  virtual AnyOp op() const { return {}; }
};

// Throws an Error with ErrorCode::kIncompatible unless the op of the kernel, if it knows it, makes results of the last
// of these types, symbolic sizes included, from inputs of those before them. Layouts are the tactics' business.
void check_buffers(const Kernel& kernel, const Types& buffers);

// What kernels for a GPU are made with.
struct KernelSupport {
  std::shared_ptr<cuda::Device> device;
  std::function<std::span<const std::byte>(std::string_view name)> module_image;  // the cubin called so
};

// One entry of the list of kernels. `make` parses the parameter text ("{tile = 6x16}") and throws an Error with
// ErrorCode::kIncompatible when it does not hold what the kernel needs.
struct KernelEntry {
  std::string_view name;  // "cpu.matmul_avx2"
  std::unique_ptr<Kernel> (*make)(std::string_view parameters) = nullptr;
  std::unique_ptr<Kernel> (*make_on_gpu)(std::string_view parameters, const KernelSupport& support) = nullptr;
};

// The kernels of this build, in the order of kernel_list.cpp.
std::span<const KernelEntry> kernel_list();
// Throws an Error with ErrorCode::kIncompatible when there is no kernel of that name.
std::unique_ptr<Kernel> make_kernel(std::string_view name, std::string_view parameters,
                                    const KernelSupport& support = {});

}  // namespace ingot
