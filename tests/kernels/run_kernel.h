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
  int64_t tiles = 0;  // the last result comes in tiles, in blocks of so many columns
};

// Rows of f32 from bf16 in tiles of 16 rows by 32 columns: for every 512 rows and every `block` columns, the row tiles.
inline HostTensor from_tiles(const TensorType& type, const std::byte* bytes, int64_t block) {
  HostTensor result(type);
  const int64_t rows = type.sizes()[0], columns = type.sizes()[1];
  for (int64_t first = 0; first < rows; first += 512)
    for (int64_t begin = 0; begin < columns; begin += block)
      for (int64_t tile = first; tile < std::min(first + 512, rows); tile += 16)
        for (int64_t column = begin; column < std::min(begin + block, columns); column += 32)
          for (int64_t i = 0; i < 16 * 32; ++i, bytes += 2) {
            uint16_t value;
            std::memcpy(&value, bytes, 2);
            const int64_t row = tile + i / 32;
            if (row < rows) result.values[static_cast<size_t>(row * columns + column + i % 32)] = bf16_to_float(value);
          }
  return result;
}

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
  std::vector<int64_t> bytes;  // of the outputs
  auto aligned = [](std::vector<std::byte>& bytes_and_more) {
    return reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(bytes_and_more.data()) + 63) / 64 * 64);
  };
  for (size_t i = 0; i < outputs.size(); ++i) {
    const int aliased = op.aliased_input(static_cast<int>(i));
    // Tiles have 16 rows. A program that hands them over takes as many, so that there is room for fewer as well.
    const int64_t row_bytes = outputs[i].bytes() / std::max<int64_t>(1, outputs[i].sizes()[0]);
    bytes.push_back(run.tiles > 0 ? std::max(16 * row_bytes, outputs[i].bytes()) : outputs[i].bytes());
    memory.emplace_back(static_cast<size_t>(bytes.back()) + 128, std::byte{0xff});
    std::byte* data = aligned(memory.back());
    add(outputs[i], aliased < 0 ? data : arguments[static_cast<size_t>(aliased)].data);
  }
  std::vector<std::byte> scratch(static_cast<size_t>(run.scratch_bytes) + 128, std::byte{0xff});
  ThreadPool threads(run.threads);
  make_kernel(run.kernel, run.parameters)->run({arguments, aligned(scratch), &threads});
  // What lies behind an output belongs to somebody else.
  for (size_t i = 0; i < outputs.size(); ++i)
    for (int64_t byte = bytes[i]; byte < bytes[i] + 64; ++byte)
      EXPECT_EQ(aligned(memory[inputs.size() + i])[byte], std::byte{0xff}) << "output overrun";
  for (size_t byte = static_cast<size_t>(aligned(scratch) - scratch.data() + run.scratch_bytes); byte < scratch.size();
       ++byte)
    EXPECT_EQ(scratch[byte], std::byte{0xff}) << "scratch overrun";
  HostTensors results;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const void* data = arguments[inputs.size() + i].data;
    if (run.tiles > 0 && i + 1 == outputs.size())
      results.push_back(from_tiles(outputs[i], static_cast<const std::byte*>(data), run.tiles));
    else
      results.emplace_back(TensorView{outputs[i], data});
  }
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
