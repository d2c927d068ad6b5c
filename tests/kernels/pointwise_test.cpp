#include "ops/pointwise.h"

#include <limits>

#include "kernels/cpu/vector_functions.h"
#include "kernels/run_kernel.h"

namespace ingot {
namespace {

const ActivationFunction kFunctions[] = {
    ActivationFunction::kNone,      ActivationFunction::kSilu, ActivationFunction::kGelu, ActivationFunction::kGeluTanh,
    ActivationFunction::kQuickGelu, ActivationFunction::kRelu, ActivationFunction::kTanh, ActivationFunction::kSigmoid};

TEST(PointwiseKernels, MatchTheirOpsOnOddSizes) {
  for (std::vector<int64_t> sizes : {std::vector<int64_t>{1, 1}, {3, 7}, {1, 131}, {17, 1000}, {50, 1025}}) {
    const HostTensor a = random_tensor(DType::kF32, sizes, 1, 3), b = random_tensor(DType::kF32, sizes, 2);
    const HostTensor row = random_tensor(DType::kF32, {sizes[1]}, 3);
    check_levels(Add{}, {a, b}, 1e-7, 0);
    check_levels(Add{}, {a, row}, 1e-7, 0);
    check_levels(Multiply{}, {a, b}, 1e-7, 0);
    check_levels(Multiply{}, {a, row}, 1e-7, 0);
    check_levels(Scale{0.37f}, {a}, 1e-7, 0);
    check_levels(SoftCap{2.5f}, {a}, 1e-6, 0);
    for (ActivationFunction function : kFunctions) {
      check_levels(Activation{function}, {a}, 1e-6, 1e-7);
      check_levels(GatedActivation{function}, {a, b}, 1e-6, 1e-7);
    }
  }
}

TEST(PointwiseKernels, GateTheHalvesOfARow) {
  for (int64_t n : {1, 5, 64, 333, 9001}) {
    for (int64_t rows : {1, 4}) {
      const HostTensor both = random_tensor(DType::kF32, {rows, 2 * n}, 4, 2);
      check_levels(GatedActivation{ActivationFunction::kSilu}, {both}, 1e-6, 1e-7);
      check_levels(GatedActivation{ActivationFunction::kGeluTanh}, {both}, 1e-6, 1e-7);
    }
  }
}

TEST(PointwiseKernels, ChainsRefuseStepsThatTheyDoNotKnow) {
  for (const char* parameters : {"{steps = rms_norm}", "{}", "{steps = \"scale(2\"}"}) {
    try {
      make_kernel("cpu.pointwise_chain_portable", parameters);
      ADD_FAILURE() << parameters;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kIncompatible) << parameters;
    }
  }
}

// Like apply(), without its cancellation in the tails of the gelus.
double accurate(ActivationFunction function, double x) {
  if (function == ActivationFunction::kGelu) return 0.5 * x * std::erfc(-x * M_SQRT1_2);
  if (function == ActivationFunction::kGeluTanh)
    return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  return apply(function, x);
}

TEST(PointwiseKernels, ActivationsAreAccurateOverTheWholeRange) {
  std::vector<double> values = {0,    -0.0,  1e-30, -1e-30, 0.625, -0.625, 87,   -87,
                                88.5, -88.5, 90,    -90,    1e4,   -1e4,   3e38, -3e38};
  for (double x = -16; x <= 16; x += 0.0037) values.push_back(static_cast<float>(x));
  for (double x = 1e-8; x < 1; x *= 1.07)
    values.push_back(static_cast<float>(x)), values.push_back(static_cast<float>(-x));
  const HostTensor x(tensor_type(DType::kF32, {1, static_cast<int64_t>(values.size())}), values);
  for (ActivationFunction function : kFunctions) {
    for (CpuLevel level : levels_of_this_machine()) {
      const Activation op{function};
      const auto y = run_kernel({kernel_name("activation", level), print_fields(op)}, op, {x})[0].values;
      for (size_t i = 0; i < values.size(); ++i) {
        const double x_i = values[i];
        const double expected = accurate(function, x_i);
        // Far out in the tails of exp, the rounding of its argument is magnified.
        const double relative = x_i > -3 ? 1e-6 : 2e-5;
        ASSERT_LE(std::abs(y[i] - expected), relative * std::abs(expected) + 1e-35 * std::max(1.0, std::abs(x_i)))
            << enum_name(function) << " of " << x_i << " at " << enum_name(level) << ": " << y[i];
      }
    }
  }
}

TEST(PointwiseKernels, NotANumberStaysOne) {
  const HostTensor x(tensor_type(DType::kF32, {1, 17}), std::vector<double>(17, std::nan("")));
  for (ActivationFunction function : kFunctions) {
    if (function == ActivationFunction::kRelu) continue;
    const Activation op{function};
    for (CpuLevel level : levels_of_this_machine()) {
      const HostTensors results = run_kernel({kernel_name("activation", level), print_fields(op)}, op, {x});
      for (double y : results[0].values)
        EXPECT_TRUE(std::isnan(y)) << enum_name(function) << " at " << enum_name(level);
    }
  }
}

TEST(PointwiseKernels, CastRoundsToNearestEven) {
  for (DType from : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (DType to : {DType::kF32, DType::kBF16, DType::kF16}) {
      HostTensor x = random_tensor(from, {3, 1237}, 5, 100);
      for (size_t i = 0; i < 500; ++i) x.values[i] *= std::pow(2.0, -static_cast<double>(i % 30));
      x.values[7] = std::nan("");
      x.values[8] = std::numeric_limits<double>::infinity();
      x.values[9] = 65519.99;  // rounds to the greatest f16
      x.values[10] = 65520;    // overflows f16
      x.values[11] = 1.00390625;
      x.values[12] = 1.01171875;
      round_values(x);
      check_levels(Cast{to}, {x}, 0, 0);
    }
  }
}

TEST(PointwiseKernels, EveryHalfPrecisionNumberWidensExactly) {
  std::vector<uint16_t> bits(65536);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  std::vector<float> wide(bits.size());
  std::vector<uint16_t> back(bits.size());
  for (CpuLevel level : levels_of_this_machine()) {
    const VectorFunctions& functions = vector_functions(level);
    for (DType dtype : {DType::kF16, DType::kBF16}) {
      functions.widen(dtype, bits.data(), wide.data(), 65536);
      functions.narrow(dtype, wide.data(), back.data(), 65536);
      for (size_t i = 0; i < bits.size(); ++i) {
        const float expected = dtype == DType::kF16 ? f16_to_float(bits[i]) : bf16_to_float(bits[i]);
        if (std::isnan(expected)) {
          ASSERT_TRUE(std::isnan(wide[i])) << i;
          continue;
        }
        ASSERT_EQ(wide[i], expected) << i << " at " << enum_name(level);
        ASSERT_EQ(back[i], bits[i]) << i << " at " << enum_name(level);
      }
    }
  }
}

}  // namespace
}  // namespace ingot
