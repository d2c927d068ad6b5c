// The gates that AMX products apply against what the functions mean, from one end of the floats to the other.
// g++ 12 warns falsely about the undefined registers inside its own intrinsics.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <gtest/gtest.h>
#include <immintrin.h>

#include <bit>
#include <cmath>
#include <limits>

#include "base/fields.h"
#include "device/target.h"
#include "ops/activation_function.h"

#define INGOT_AVX512 __attribute__((target("avx512f,avx512dq")))
#define INGOT_INLINE INGOT_AVX512 inline

namespace ingot {
namespace {

#include "kernels/cpu/matmul_gate_avx512.h"

struct Sixteen {
  alignas(64) float values[16];
};

INGOT_AVX512 Sixteen gate_times(ActivationFunction function, const Sixteen& gate, float up) {
  Sixteen y;
  _mm512_store_ps(y.values, SigmoidGate(function).apply(_mm512_load_ps(gate.values), _mm512_set1_ps(up)));
  return y;
}

// As ops say it, but for the cancellation in the far tail of gelu_tanh.
double meaning(ActivationFunction function, double x) {
  if (function != ActivationFunction::kGeluTanh || std::isinf(x)) return apply(function, x);
  return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

class MatmulGates : public testing::TestWithParam<ActivationFunction> {
 protected:
  void SetUp() override {
    if (cpu_features().level < CpuLevel::kAvx512) GTEST_SKIP() << "no AVX-512 here";
  }
};

TEST_P(MatmulGates, AreExactTo13BitsAtEveryMagnitude) {
  const double smallest = 0x1p-120;  // below, what is a normal number no longer decides
  double worst = 0, worst_small = 0;
  float worst_at = 0;
  constexpr uint64_t kStride = 4093;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 16 * kStride) {
    Sixteen gate;
    for (uint64_t i = 0; i < 16; ++i) gate.values[i] = std::bit_cast<float>(static_cast<uint32_t>(bits + i * kStride));
    Sixteen y = gate_times(GetParam(), gate, 1);
    for (int i = 0; i < 16; ++i) {
      double want = meaning(GetParam(), gate.values[i]);
      if (std::isnan(want) || std::isinf(want)) {
        ASSERT_EQ(std::isnan(want), std::isnan(y.values[i])) << gate.values[i];
        continue;
      }
      double error = std::abs(y.values[i] - want);
      if (std::abs(want) < smallest) {
        worst_small = std::max(worst_small, error);
      } else if (!(error / std::abs(want) <= worst)) {
        worst = error / std::abs(want);
        worst_at = gate.values[i];
      }
    }
  }
  EXPECT_LT(worst, 0x1p-13) << "at " << worst_at;
  EXPECT_LT(worst_small, smallest);
  RecordProperty("bits", std::to_string(-std::log2(worst)));
}

TEST_P(MatmulGates, KeepInfinitiesAndNans) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  Sixteen gate = {{kInfinity, -kInfinity, kNan, 0, 1e30f, -1e30f, 88, -88, 3.4e38f, -3.4e38f}};
  Sixteen y = gate_times(GetParam(), gate, -2);
  EXPECT_EQ(y.values[0], -kInfinity);
  EXPECT_TRUE(std::isnan(y.values[1]));
  EXPECT_TRUE(std::isnan(apply(GetParam(), -kInfinity)));
  EXPECT_TRUE(std::isnan(y.values[2]));
  EXPECT_EQ(y.values[3], 0);
  EXPECT_NEAR(y.values[4], -2e30f, 2e30f * 0x1p-13f);
  EXPECT_EQ(y.values[5], 0);
  EXPECT_NEAR(y.values[6], -176, 176 * 0x1p-13);
  EXPECT_NEAR(y.values[7], 0, 1e-35);
  EXPECT_EQ(y.values[8], -kInfinity);  // twice that is no float
  EXPECT_EQ(y.values[9], 0);
  EXPECT_TRUE(std::isnan(gate_times(GetParam(), {{1}}, kNan).values[0]));
}

INSTANTIATE_TEST_SUITE_P(All, MatmulGates,
                         testing::Values(ActivationFunction::kSilu, ActivationFunction::kQuickGelu,
                                         ActivationFunction::kGeluTanh),
                         [](const auto& info) { return std::string(enum_name(info.param)); });

TEST(MatmulGateFunctions, AreOnlyTheirs) {
  for (auto function : {ActivationFunction::kNone, ActivationFunction::kGelu, ActivationFunction::kRelu,
                        ActivationFunction::kTanh, ActivationFunction::kSigmoid})
    EXPECT_FALSE(has_sigmoid_gate(function));
}

}  // namespace
}  // namespace ingot
