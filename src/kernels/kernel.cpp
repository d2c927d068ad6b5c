#include "kernels/kernel.h"

#include <algorithm>

#include "base/error.h"

namespace ingot {

namespace {
// Optional inputs leave open where the results begin.
bool makes(const AnyOp& op, const Types& inputs, const Types& buffers) {
  try {
    const Types results = op.infer(inputs);
    return inputs.size() + results.size() == buffers.size() &&
           std::equal(results.begin(), results.end(), buffers.begin() + static_cast<ptrdiff_t>(inputs.size()));
  } catch (const Error&) {
    return false;
  }
}
}  // namespace

void check_buffers(const Kernel& kernel, const Types& buffers) {
  const AnyOp op = kernel.op();
  if (!op) return;
  Types plain = buffers;
  for (TensorType& type : plain) type.layout.clear();
  // From the end: most ops have one result, and a refusal takes long.
  for (Types inputs = plain; !inputs.empty();) {
    inputs.pop_back();
    if (makes(op, inputs, plain)) return;
  }
  std::vector<std::string> found;
  for (const TensorType& type : buffers) found.push_back(print(type));
  fail(ErrorCode::kIncompatible, "{} {} does not have buffers of {}; rebuild the engine", op.name(), op.attributes(),
       join(found));
}

std::unique_ptr<Kernel> make_kernel(std::string_view name, std::string_view parameters, const KernelSupport& support) {
  Scope scope(format("kernel {}", name));
  for (const KernelEntry& entry : kernel_list())
    if (entry.name == name) return entry.make ? entry.make(parameters) : entry.make_on_gpu(parameters, support);
  fail(ErrorCode::kIncompatible, "this build of ingot has no such kernel; rebuild the engine with it");
}

}  // namespace ingot
