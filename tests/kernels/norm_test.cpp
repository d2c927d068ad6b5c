#include "ops/norm.h"

#include "kernels/run_kernel.h"

namespace ingot {
namespace {

constexpr double kRelative = 1e-6, kAbsolute = 1e-6;

TEST(NormKernels, MatchTheirOpsOnOddSizes) {
  for (int64_t size : {1, 7, 48, 129, 2048, 5003}) {
    for (int64_t rows : {1, 5, 37}) {
      const HostTensor x = random_tensor(DType::kF32, {rows, size}, 1, 3),
                       b = random_tensor(DType::kF32, {rows, size}, 2);
      const HostTensor gamma = random_tensor(DType::kF32, {size}, 3), beta = random_tensor(DType::kF32, {size}, 4);
      check_levels(RmsNorm{1e-5f}, {x, gamma}, kRelative, kAbsolute);
      check_levels(AddRmsNorm{1e-5f}, {x, b, gamma}, kRelative, kAbsolute);
      if (size == 1) continue;
      check_levels(LayerNorm{1e-5f}, {x, gamma, beta}, kRelative, 4 * kAbsolute);
      check_levels(AddLayerNorm{1e-5f}, {x, b, gamma, beta}, kRelative, 4 * kAbsolute);
    }
  }
}

TEST(NormKernels, NormalizeEachHeadByItself) {
  const HostTensor x = random_tensor(DType::kF32, {19, 6 * 48}, 5, 2), gamma = random_tensor(DType::kF32, {48}, 6);
  check_levels(RmsNorm{1e-6f}, {x, gamma}, kRelative, kAbsolute);
}

TEST(NormKernels, LayerNormKeepsSmallDifferencesBesideALargeMean) {
  HostTensor x = random_tensor(DType::kF32, {3, 300}, 7);
  for (double& value : x.values) value += 1000;
  round_values(x);
  const HostTensor gamma = random_tensor(DType::kF32, {300}, 8), beta = random_tensor(DType::kF32, {300}, 9);
  check_levels(LayerNorm{1e-5f}, {x, gamma, beta}, 1e-4, 2e-4);
}

}  // namespace
}  // namespace ingot
