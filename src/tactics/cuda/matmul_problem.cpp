#include "tactics/cuda/matmul_problem.h"

#include <numeric>

namespace ingot {

MatmulProblem::MatmulProblem(const Problem& problem)
    : rows(problem.inputs[0].shape[0].constant()),
      n(problem.inputs[1].shape[0].constant()),
      k(problem.inputs[1].shape[1].constant()),
      x(problem.inputs[0].dtype),
      w(problem.inputs[1].dtype),
      y(problem.outputs[0].dtype),
      function(problem.op.as<Matmul>()->function),
      gated(problem.op.as<Matmul>()->gated),
      output(static_cast<int>(problem.inputs.size())) {
  if (problem.op.as<Matmul>()->bias) bias = 2, bias_dtype = problem.inputs[2].dtype;
  if (problem.op.as<Matmul>()->residual) residual = output - 1, residual_dtype = problem.inputs.back().dtype;
}

std::string unless_cuda_matmul(const Problem& problem, const Target& target) {
  std::string reason = unless_cuda(target);
  for (size_t i = 0; reason.empty() && i < problem.inputs.size(); ++i) reason = unless_device_float(problem.inputs[i]);
  if (reason.empty() && problem.inputs[1].shape[1].constant() == 0) reason = "nothing to add up: k is 0";
  return reason;
}

DeviceModule matmul_module(std::string_view file, const MatmulProblem& problem, const Target& target) {
  std::string_view bias = problem.bias ? device_type(problem.bias_dtype) : "absent";
  std::string_view residual = problem.residual ? device_type(problem.residual_dtype) : "absent";
  return {
      .file = std::string(file),
      .defines = {define("FEATURES", problem.n), define("DEPTH", problem.k), define("X_TYPE", device_type(problem.x)),
                  define("W_TYPE", device_type(problem.w)), define("Y_TYPE", device_type(problem.y)),
                  define("BIAS_TYPE", bias), define("RESIDUAL_TYPE", residual),
                  define("FUNCTION", format("act_{}", enum_name(problem.function))),
                  define("GATED", int64_t{problem.gated})},
      .arch = target.cuda_arch};
}

ModuleLaunch matmul_launch(std::string_view function, const MatmulProblem& problem, std::string_view x,
                           std::string_view w) {
  auto pointer = [](int buffer) { return buffer ? format("buf {}", buffer) : std::string("i64 0"); };
  ModuleLaunch launch;
  launch.function = function;
  launch.dependent = true;
  launch.arguments = {std::string(x),          std::string(w),  pointer(problem.bias), pointer(problem.residual),
                      pointer(problem.output), "i32 size(0, 0)"};
  return launch;
}

void add_matmul_step(CompiledTactic& tactic, const DeviceModule& module, ModuleLaunch launch,
                     const MatmulProblem& problem) {
  std::vector<int> buffers(static_cast<size_t>(problem.output) + 1);
  std::iota(buffers.begin(), buffers.end(), 0);
  tactic.input_layouts.resize(static_cast<size_t>(problem.output));
  add_module_step(tactic, module, std::move(launch), std::move(buffers));
}

int64_t shared_bytes_limit(const Target& target) {
  int arch = std::stoi(target.cuda_arch.substr(3));
  if (arch == 80) return 163 * 1024;
  return arch < 90 || arch >= 120 ? 99 * 1024 : 227 * 1024;
}

bool has_bulk_copies(const Target& target) { return std::stoi(target.cuda_arch.substr(3)) >= 90; }

}  // namespace ingot
