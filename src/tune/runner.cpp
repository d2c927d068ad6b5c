#include "tune/runner.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "base/error.h"
#include "kernels/weight_layout.h"

namespace ingot {

AlignedBytes::AlignedBytes(size_t size) : size_(size) {
  size_t rounded = (size + 63) / 64 * 64;
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(64, rounded ? rounded : 64)));
  if (!data_) throw std::bad_alloc();
}

void AlignedBytes::Free::operator()(std::byte* p) const { std::free(p); }

Argument make_argument(const TensorType& type, void* data) {
  Argument argument;
  argument.data = data;
  argument.dtype = type.dtype;
  argument.rank = static_cast<int>(type.rank());
  for (size_t i = 0; i < type.shape.size() && i < argument.size.size(); ++i)
    argument.size[i] = type.shape[i].constant();
  return argument;
}

TacticRunner::TacticRunner(const Problem& problem, const CompiledTactic& tactic, std::byte* scratch,
                           const KernelSupport& support)
    : own_scratch_(scratch ? 0 : static_cast<size_t>(tactic.scratch_bytes)),
      scratch_(scratch ? scratch : own_scratch_.data()) {
  for (const CompiledStep& step : tactic.steps) {
    BoundStep bound;
    bound.kernel = make_kernel(step.kernel, step.parameters, support);
    for (int index : step.arguments) {
      size_t i = static_cast<size_t>(index);
      const TensorType& type =
          i < problem.inputs.size() ? problem.inputs[i] : problem.outputs[i - problem.inputs.size()];
      bound.arguments.push_back(make_argument(type, nullptr));
      bound.sources.push_back(index);
    }
    steps_.push_back(std::move(bound));
  }
}

void TacticRunner::bind(int index, void* data) {
  for (BoundStep& step : steps_)
    for (size_t i = 0; i < step.sources.size(); ++i)
      if (step.sources[i] == index) step.arguments[i].data = data;
}

void TacticRunner::run(ThreadPool& threads) {
  for (const BoundStep& step : steps_) step.kernel->run({step.arguments, scratch_, &threads, nullptr});
}

void TacticRunner::enqueue(cuda::Stream& stream) {
  for (const BoundStep& step : steps_) step.kernel->run({step.arguments, scratch_, nullptr, &stream});
}

int64_t stored_bytes(const Problem& problem, const CompiledTactic& tactic, size_t index) {
  const TensorType& type = problem.inputs[index];
  const std::string& layout = tactic.input_layouts[index];
  if (layout.empty()) return type.bytes();
  const WeightLayout* found = find_weight_layout(layout);
  if (!found) fail(ErrorCode::kIncompatible, "there is no weight layout \"{}\"", layout);
  return found->packed_bytes(type);
}

AlignedBytes packed(const TensorType& type, const void* row_major, std::string_view layout) {
  const WeightLayout* found = find_weight_layout(layout);
  if (!found) fail(ErrorCode::kIncompatible, "there is no weight layout \"{}\"", layout);
  std::vector<int64_t> sizes = type.sizes();
  int64_t cols = sizes.back(), rows = sizes[sizes.size() - 2], experts = sizes.size() == 3 ? sizes[0] : 1;
  int64_t blocks = (rows + found->rows_per_block - 1) / found->rows_per_block;
  AlignedBytes out(static_cast<size_t>(found->packed_bytes(type)));
  int64_t block_bytes = blocks * experts > 0 ? static_cast<int64_t>(out.size()) / (blocks * experts) : 0;
  const std::byte* source = static_cast<const std::byte*>(row_major);
  std::byte* target = out.data();
  int64_t row_bytes = cols * size_of(type.dtype);
  for (int64_t e = 0; e < experts; ++e)
    for (int64_t block = 0; block < blocks; ++block, target += block_bytes) {
      int64_t first = block * found->rows_per_block, count = std::min(found->rows_per_block, rows - first);
      found->pack(type.dtype, source + (e * rows + first) * row_bytes, count, cols, target);
    }
  return out;
}

}  // namespace ingot
