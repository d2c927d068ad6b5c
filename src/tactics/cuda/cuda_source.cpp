#include "tactics/cuda/cuda_source.h"

#include <algorithm>

namespace ingot {

std::string unless_cuda(const Target& target) { return target.kind == "cuda" ? "" : "needs a cuda target"; }

std::string unless_hopper(const Target& target) {
  std::string reason = unless_cuda(target);
  return reason.empty() && target.cuda_arch != "sm_90a" ? "needs sm_90a" : reason;
}

std::string unless_device_float(const TensorType& type) {
  if (type.dtype == DType::kF32 || type.dtype == DType::kBF16 || type.dtype == DType::kF16) return "";
  return format("found {} where f32, bf16 or f16 is needed", print(type));
}

std::string unless_device_floats(const Problem& problem, std::initializer_list<size_t> arguments) {
  for (size_t i : arguments) {
    const size_t inputs = problem.inputs.size();
    std::string reason = unless_device_float(i < inputs ? problem.inputs[i] : problem.outputs.at(i - inputs));
    if (!reason.empty()) return reason;
  }
  return "";
}

std::string_view device_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "float";
    case DType::kBF16:
      return "bf16";
    case DType::kF16:
      return "f16";
    default:
      return "int";
  }
}

std::string define(std::string_view name, std::string_view value) { return format("{}={}", name, value); }
std::string define(std::string_view name, int64_t value) { return format("{}={}", name, value); }
std::string define(std::string_view name, float value) {
  std::string text = print_float(value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return format("{}={}f", name, text);
}

void add_module_step(CompiledTactic& tactic, const DeviceModule& module, ModuleLaunch launch,
                     std::vector<int> arguments) {
  launch.module = module.name();
  if (std::find(tactic.modules.begin(), tactic.modules.end(), module) == tactic.modules.end())
    tactic.modules.push_back(module);
  tactic.steps.push_back({"cuda.module", print_fields(launch), std::move(arguments)});
}

}  // namespace ingot
