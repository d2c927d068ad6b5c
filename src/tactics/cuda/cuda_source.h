// What the tactic sources for NVIDIA GPUs share.
#pragma once

#include <initializer_list>
#include <string>

#include "kernels/cuda/module_launch.h"
#include "tactics/tactic.h"

namespace ingot {

// Why `target` cannot run this library's device code at all, or "". Without compute capability 9.0, `hopper` is refused
// ("needs sm_90a").
std::string unless_cuda(const Target& target);
std::string unless_hopper(const Target& target);
// "" when the type is f32, bf16 or f16.
std::string unless_device_float(const TensorType& type);
// "" when the given inputs and outputs (numbered in turn) are f32, bf16 or f16.
std::string unless_device_floats(const Problem& problem, std::initializer_list<size_t> arguments);

// float, bf16, f16 or int: what device code calls a dtype.
std::string_view device_type(DType dtype);
// "NAME=value".
std::string define(std::string_view name, std::string_view value);
std::string define(std::string_view name, int64_t value);
std::string define(std::string_view name, float value);  // exact, with the suffix f

// A step that runs `launch` from `module` over the given inputs and outputs of the problem; adds the module to `tactic`
// once. launch.module is filled in.
void add_module_step(CompiledTactic& tactic, const DeviceModule& module, ModuleLaunch launch,
                     std::vector<int> arguments);

}  // namespace ingot
