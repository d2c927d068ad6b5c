// Runs one kernel on host tensors, to compare it with the meaning of its op.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "device/target.h"
#include "kernels/kernel.h"
#include "ops/op.h"

namespace ingot {

inline std::vector<CpuLevel> levels_of_this_machine() {
  std::vector<CpuLevel> levels = {CpuLevel::kPortable};
  if (cpu_features().level >= CpuLevel::kAvx2) levels.push_back(CpuLevel::kAvx2);
  if (cpu_features().level >= CpuLevel::kAvx512) levels.push_back(CpuLevel::kAvx512);
  return levels;
}

inline std::string kernel_name(std::string_view op, CpuLevel level) {
  return "cpu." + std::string(op) + "_" + std::string(enum_name(level));
}

inline TensorType tensor_type(DType dtype, std::vector<int64_t> sizes) {
  TensorType type{dtype, {}, ""};
  for (int64_t size : sizes) type.shape.push_back(Dim(size));
  return type;
}

// Values of a normal distribution, rounded to the dtype.
inline HostTensor random_tensor(DType dtype, std::vector<int64_t> sizes, uint32_t seed, double deviation = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0, deviation);
  HostTensor tensor(tensor_type(dtype, sizes));
  for (double& value : tensor.values) value = normal(generator);
  round_values(tensor);
  return tensor;
}

inline HostTensor index_tensor(std::vector<double> values, std::vector<int64_t> sizes = {}) {
  if (sizes.empty()) sizes = {static_cast<int64_t>(values.size())};
  return HostTensor(tensor_type(DType::kI32, sizes), std::move(values));
}

struct KernelRun {
  std::string kernel, parameters;
  int threads = 1;
  int64_t scratch_bytes = 0;
};

// The kernel's results for `op` on `inputs`. Output memory holds garbage before, unless it continues a state input.
inline HostTensors run_kernel(const KernelRun& run, const AnyOp& op, const HostTensors& inputs) {
  std::vector<std::vector<std::byte>> memory;
  std::vector<Argument> arguments;
  Types types;
  auto add = [&](const TensorType& type, void* data) {
    Argument argument{data, type.dtype, static_cast<int>(type.rank()), {}};
    for (size_t axis = 0; axis < type.shape.size(); ++axis) argument.size[axis] = type.sizes()[axis];
    arguments.push_back(argument);
  };
  for (const HostTensor& input : inputs) {
    types.push_back(input.type);
    memory.push_back(input.bytes());
    memory.back().resize(memory.back().size() + 64);
    add(input.type, memory.back().data());
  }
  const Types outputs = op.infer(types);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const int aliased = op.aliased_input(static_cast<int>(i));
    memory.emplace_back(static_cast<size_t>(outputs[i].bytes()) + 64, std::byte{0xff});
    void* data = memory.back().data();
    add(outputs[i], aliased < 0 ? data : arguments[static_cast<size_t>(aliased)].data);
  }
  std::vector<std::byte> scratch(static_cast<size_t>(run.scratch_bytes) + 128, std::byte{0xff});
  auto aligned = (reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64;
  ThreadPool threads(run.threads);
  make_kernel(run.kernel, run.parameters)->run({arguments, reinterpret_cast<std::byte*>(aligned), &threads});
  // What lies behind an output belongs to somebody else.
  for (size_t i = 0; i < outputs.size(); ++i)
    for (size_t byte = 0; byte < 64; ++byte)
      EXPECT_EQ(memory[inputs.size() + i][static_cast<size_t>(outputs[i].bytes()) + byte], std::byte{0xff});
  for (size_t byte = static_cast<size_t>(reinterpret_cast<std::byte*>(aligned) - scratch.data() + run.scratch_bytes);
       byte < scratch.size(); ++byte)
    EXPECT_EQ(scratch[byte], std::byte{0xff}) << "scratch overrun";
  HostTensors results;
  for (size_t i = 0; i < outputs.size(); ++i)
    results.emplace_back(TensorView{outputs[i], arguments[inputs.size() + i].data});
  return results;
}

// |actual - expected| <= absolute + relative * |expected| everywhere.
inline void expect_close(const HostTensors& actual, const HostTensors& expected, double relative, double absolute,
                         const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t t = 0; t < actual.size(); ++t) {
    ASSERT_EQ(actual[t].values.size(), expected[t].values.size()) << what;
    for (size_t i = 0; i < actual[t].values.size(); ++i) {
      const double a = actual[t].values[i], e = expected[t].values[i];
      if (std::isnan(a) && std::isnan(e)) continue;
      if (a == e) continue;
      ASSERT_LE(std::abs(a - e), absolute + relative * std::abs(e)) << what << ", result " << t << ", element " << i;
    }
  }
}

// Runs the kernel of `op` at every level, with one and three threads, against the op's meaning.
inline void check_levels(const AnyOp& op, const HostTensors& inputs, double relative, double absolute) {
  const HostTensors expected = op.evaluate(inputs);
  for (CpuLevel level : levels_of_this_machine()) {
    for (int threads : {1, 3}) {
      const std::string name = kernel_name(op.name(), level);
      const HostTensors actual = run_kernel({name, op.attributes(), threads}, op, inputs);
      expect_close(actual, expected, relative, absolute, name + " " + op.attributes() + " " + print(inputs[0].type));
    }
  }
}

}  // namespace ingot
