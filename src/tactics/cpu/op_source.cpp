#include "tactics/cpu/op_source.h"

namespace ingot {

std::string unless_f32(const Problem& problem, std::initializer_list<size_t> arguments) {
  for (size_t i : arguments) {
    const size_t inputs = problem.inputs.size();
    const TensorType& type = i < inputs ? problem.inputs[i] : problem.outputs.at(i - inputs);
    if (type.dtype != DType::kF32) return format("found {} where the CPU kernels need f32", print(type));
  }
  return "";
}

std::string unless_stored_float(const TensorType& type) {
  if (type.dtype == DType::kF32 || type.dtype == DType::kBF16 || type.dtype == DType::kF16) return "";
  return format("found {} where f32, bf16 or f16 is needed", print(type));
}

std::string unless_level(const Target& target, CpuLevel level) {
  if (target.kind != "cpu") return "needs a cpu target";
  if (target.cpu_level < level) return format("needs {}", enum_name(level));
  return "";
}

Outclassing::Outclassing(std::string_view name, CpuLevel level) {
  constexpr std::string_view kEnding = "_portable";
  if (level == CpuLevel::kPortable && name.ends_with(kEnding))
    name_ = std::string(name.substr(0, name.size() - kEnding.size())) + "_avx2";
}

std::vector<int> all_arguments(const Problem& problem) {
  std::vector<int> arguments(problem.inputs.size() + problem.outputs.size());
  for (size_t i = 0; i < arguments.size(); ++i) arguments[i] = static_cast<int>(i);
  return arguments;
}

std::string_view op_source_version() { return INGOT_SOURCE_HASH; }

}  // namespace ingot
