// Runs one compiled tactic on memory of its own or of the caller: the tuner, the conformance tests and bench programs.
#pragma once

#include <memory>
#include <vector>

#include "kernels/kernel.h"
#include "tactics/tactic.h"

namespace ingot {

// Memory that starts at a multiple of 64 bytes and is not initialized.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(size_t size);
  std::byte* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte[], Free> data_;
  size_t size_ = 0;
};

// All memory belongs to the device that the tactic's kernels run on.
class TacticRunner {
 public:
  // With `scratch`, at least tactic.scratch_bytes of it, that memory is used; runners that take turns may share it.
  // Tactics for a GPU need it, and `support`.
  TacticRunner(const Problem& problem, const CompiledTactic& tactic, std::byte* scratch = nullptr,
               const KernelSupport& support = {});

  // Points input or output `index` (inputs first) at the caller's memory, in the layout that the tactic asks for.
  void bind(int index, void* data);
  void run(ThreadPool& threads);
  void enqueue(cuda::Stream& stream);

 private:
  struct BoundStep {
    std::unique_ptr<Kernel> kernel;
    std::vector<Argument> arguments;
    std::vector<int> sources;
  };
  std::vector<BoundStep> steps_;
  AlignedBytes own_scratch_;
  std::byte* scratch_;
};

// How a value of `type` looks to a kernel.
Argument make_argument(const TensorType& type, void* data);

// The bytes that input `index` of `problem` takes in the layout that `tactic` asks for.
int64_t stored_bytes(const Problem& problem, const CompiledTactic& tactic, size_t index);

// Row-major `rows` of `type` in the storage form `layout`, padding included.
AlignedBytes packed(const TensorType& type, const void* row_major, std::string_view layout);

}  // namespace ingot
