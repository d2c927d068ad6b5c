#include "ops/rope.h"

#include "kernels/run_kernel.h"
#include "ops/attention.h"

namespace ingot {
namespace {

HostTensor angles_of(int64_t tokens, int64_t rotated) {
  std::vector<double> positions, frequencies;
  for (int64_t i = 0; i < tokens; ++i) positions.push_back(static_cast<double>(i * i * 7 % 9973));
  HostTensor f(tensor_type(DType::kF32, {rotated / 2}));
  for (int64_t i = 0; i < rotated / 2; ++i)
    f.values[static_cast<size_t>(i)] = std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(rotated));
  round_values(f);
  return AnyOp(RopeAngles{}).evaluate({index_tensor(positions), f})[0];
}

TEST(RopeKernels, AnglesAreAccurateAtFarPositions) {
  const HostTensor positions = index_tensor({0, 1, 77, 4095, 131071, 131072, 1000003});
  HostTensor frequencies(tensor_type(DType::kF32, {5}), {1, 0.7498942, 0.1, 3.14e-3, 1e-6});
  round_values(frequencies);
  for (float factor : {1.0f, 1.190238f}) {
    const RopeAngles op{factor};
    for (int threads : {1, 2})
      expect_close(run_kernel({"cpu.rope_angles", print_fields(op), threads}, op, {positions, frequencies}),
                   AnyOp(op).evaluate({positions, frequencies}), 1e-7, 1e-12, "rope_angles");
  }
}

TEST(RopeKernels, RotateWholeAndPartHeads) {
  for (bool interleaved : {false, true})
    for (int64_t head_size : {8, 48, 64})
      for (int64_t rotated : {int64_t{2}, head_size / 2 - head_size / 2 % 2, head_size})
        check_levels(Rope{head_size, interleaved},
                     {random_tensor(DType::kF32, {37, 3 * head_size}, 1), angles_of(37, rotated)}, 1e-6, 5e-7);
}

TEST(KvWriteKernel, StoresEveryDType) {
  const HostTensor slots = index_tensor({11, -1, 0, 23, 6});
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for (int64_t head_size : {3, 48, 64})
      check_levels(
          KvWrite{},
          {random_tensor(dtype, {4, 3, 6, head_size}, 2), random_tensor(DType::kF32, {5, 3 * head_size}, 3), slots}, 0,
          0);
}

// A rounding boundary may lie between two nearly equal values: states are compared to one unit of their dtype.
double unit_of(DType dtype) { return dtype == DType::kF32 ? 1e-6 : dtype == DType::kF16 ? 1e-3 : 8e-3; }

TEST(RopeKvWriteKernel, MatchesTheOpsItReplaces) {
  std::vector<double> slots;
  for (int i = 0; i < 41; ++i) slots.push_back(i % 9 == 4 ? -1 : (i * 7) % 60);
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (int64_t head_size : {16, 48, 80}) {
      for (bool norm : {false, true}) {
        for (bool interleaved : {false, true}) {
          const int64_t heads = 6, kv_heads = 2, rotated = head_size == 80 ? 32 : head_size;
          HostTensors inputs = {random_tensor(DType::kF32, {41, (heads + 2 * kv_heads) * head_size}, 4),
                                angles_of(41, rotated), random_tensor(dtype, {10, kv_heads, 6, head_size}, 5),
                                random_tensor(dtype, {10, kv_heads, 6, head_size}, 6), index_tensor(slots)};
          if (norm)
            for (uint32_t seed : {7, 8}) inputs.push_back(random_tensor(DType::kF32, {head_size}, seed));
          check_levels(RopeKvWrite{heads, interleaved, norm, 1e-6f}, inputs, unit_of(dtype), 1e-6);
        }
      }
    }
  }
}

}  // namespace
}  // namespace ingot
