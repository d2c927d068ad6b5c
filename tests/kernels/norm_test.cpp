#include "ops/norm.h"

#include "kernels/cpu/norm.h"
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

// As the product that reads them would round them, in tiles; the sums as ever.
template <class Op>
void check_tiles(const Op& op, const HostTensors& inputs, int64_t block) {
  const HostTensors meant = AnyOp(op).evaluate(inputs);
  for (CpuLevel level : levels_of_this_machine())
    for (int threads : {1, 3}) {
      const std::string name = kernel_name(Op::name, level);
      HostTensors expected = run_kernel({name, print_fields(op), threads}, op, inputs);
      for (double& value : expected.back().values) value = bf16_to_float(float_to_bf16(static_cast<float>(value)));
      const std::string parameters = print_fields(NormParameters<Op>{op, {block}});
      const HostTensors actual = run_kernel({name, parameters, threads, 0, block}, op, inputs);
      expect_close(actual, expected, 0, 0, name + " in tiles " + print(inputs[0].type));
      expect_close(actual, meant, 1.0 / 256, 1e-5, name + " in tiles " + print(inputs[0].type));
    }
}

TEST(NormKernels, HandOverTiles) {
  if (!cpu_features().avx512_bf16) GTEST_SKIP() << "needs avx512_bf16";
  for (int64_t size : {32, 96, 544, 2080})
    for (int64_t rows : {1, 15, 16, 37, 530}) {
      const HostTensor x = random_tensor(DType::kF32, {rows, size}, 1, 3),
                       b = random_tensor(DType::kF32, {rows, size}, 2);
      const HostTensor gamma = random_tensor(DType::kF32, {size}, 3), beta = random_tensor(DType::kF32, {size}, 4);
      for (int64_t block : {96, 512}) {
        check_tiles(RmsNorm{1e-5f}, {x, gamma}, block);
        check_tiles(AddRmsNorm{1e-5f}, {x, b, gamma}, block);
        if (rows > 37) continue;
        check_tiles(LayerNorm{1e-5f}, {x, gamma, beta}, block);
        check_tiles(AddLayerNorm{1e-5f}, {x, b, gamma, beta}, block);
      }
    }
  EXPECT_THROW(make_kernel("cpu.rms_norm_portable", "{gives_tiles = 48}"), Error);
  EXPECT_THROW(make_kernel("cpu.add_rms_norm_portable", "{gives_tiles = -32}"), Error);
}

// Sums that are larger than caches take another way.
TEST(NormKernels, SumManyRows) {
  for (int64_t size : {2048, 2050}) {
    const HostTensor a = random_tensor(DType::kF32, {200, size}, 1, 3), b = random_tensor(DType::kF32, {200, size}, 2);
    const HostTensor gamma = random_tensor(DType::kF32, {size}, 3), beta = random_tensor(DType::kF32, {size}, 4);
    check_levels(AddRmsNorm{1e-5f}, {a, b, gamma}, kRelative, kAbsolute);
    check_levels(AddLayerNorm{1e-5f}, {a, b, gamma, beta}, kRelative, 4 * kAbsolute);
  }
}

}  // namespace
}  // namespace ingot
