#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/fields.h"
#include "tensor/host_tensor.h"

namespace ingot {
namespace {

// What an f16 or bf16 means, straight from its definition.
double meaning(uint16_t bits, int exponent_bits) {
  int mantissa_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  int exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1), mantissa = bits & ((1 << mantissa_bits) - 1);
  double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return mantissa ? std::nan("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

TEST(DType, EveryF16MeansWhatItsBitsSayAndRoundTrips) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    auto half = static_cast<uint16_t>(bits);
    float value = f16_to_float(half);
    double expected = meaning(half, 5);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << bits;
      EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(value)))) << bits;
    } else {
      ASSERT_EQ(value, expected) << bits;
      ASSERT_EQ(std::signbit(value), std::signbit(expected)) << bits;
      ASSERT_EQ(float_to_f16(value), half);
    }
  }
}

TEST(DType, EveryBf16MeansWhatItsBitsSayAndRoundTrips) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    auto half = static_cast<uint16_t>(bits);
    float value = bf16_to_float(half);
    double expected = meaning(half, 8);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << bits;
      EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(value)))) << bits;
    } else {
      ASSERT_EQ(value, expected) << bits;
      ASSERT_EQ(float_to_bf16(value), half);
    }
  }
}

// Between every two neighbours: below, at and above the middle. Covers overflow to infinity and all subnormals.
template <class Narrow, class Widen>
void check_rounding(Narrow narrow, Widen widen, uint16_t infinity) {
  for (uint16_t low = 0; low < infinity; ++low) {
    auto high = static_cast<uint16_t>(low + 1);
    double a = widen(low), b = high == infinity ? 2 * a - widen(static_cast<uint16_t>(low - 1)) : widen(high);
    auto middle = static_cast<float>((a + b) / 2);
    if (middle != (a + b) / 2) continue;  // the middle of the smallest bf16 subnormals is no f32
    uint16_t even = low % 2 == 0 ? low : high;
    ASSERT_EQ(narrow(middle), even) << low;
    ASSERT_EQ(narrow(-middle), even | 0x8000) << low;
    ASSERT_EQ(narrow(std::nextafterf(middle, 0)), low) << low;
    ASSERT_EQ(narrow(std::nextafterf(middle, INFINITY)), high) << low;
  }
  EXPECT_EQ(narrow(INFINITY), infinity);
  EXPECT_EQ(narrow(-INFINITY), infinity | 0x8000);
  EXPECT_EQ(narrow(-0.0f), 0x8000);
}

TEST(DType, FloatToF16RoundsToNearestEven) { check_rounding(float_to_f16, f16_to_float, 0x7c00); }
TEST(DType, FloatToBf16RoundsToNearestEven) { check_rounding(float_to_bf16, bf16_to_float, 0x7f80); }

TEST(DType, ElementsOfEveryTypeLoadAsStored) {
  using enum DType;
  struct Case {
    DType dtype;
    double value;
  } cases[] = {{kF64, 0.1},        {kF32, 0.1f}, {kF16, -1.5}, {kBF16, 2.5}, {kI64, -9007199254740991},
               {kI32, 2147483647}, {kI8, -128},  {kU8, 255},   {kBool, 1}};
  for (const Case& c : cases) {
    std::vector<std::byte> bytes(33);
    store_element(c.dtype, bytes.data() + 1, 3, c.value);  // not aligned
    EXPECT_EQ(load_element(c.dtype, bytes.data() + 1, 3), c.value) << enum_name(c.dtype);
    EXPECT_EQ(load_element(c.dtype, bytes.data() + 1, 2), 0) << enum_name(c.dtype);
  }
}

TEST(DType, ConvertAgreesWithElements) {
  const DType floats[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16};
  constexpr int64_t kCount = 1003;
  for (DType from : floats) {
    std::vector<std::byte> source(static_cast<size_t>(kCount * size_of(from) + 1));
    for (int64_t i = 0; i < kCount; ++i)
      store_element(from, source.data() + 1, i, std::sin(double(i)) * std::exp2(i % 40 - 30));
    for (DType to : floats) {
      std::vector<std::byte> target(static_cast<size_t>(kCount * size_of(to) + 1)), expected = target;
      convert(from, source.data() + 1, to, target.data() + 1, kCount);
      for (int64_t i = 0; i < kCount; ++i)
        store_element(to, expected.data() + 1, i, load_element(from, source.data() + 1, i));
      EXPECT_TRUE(target == expected) << enum_name(from) << " to " << enum_name(to);
    }
  }
}

TEST(DType, NamesOfUsers) {
  EXPECT_EQ(parse_user_dtype("bfloat16"), DType::kBF16);
  EXPECT_EQ(parse_user_dtype("float16"), DType::kF16);
  EXPECT_EQ(parse_user_dtype("f32"), DType::kF32);
  EXPECT_EQ(user_dtype_name(DType::kBF16), "bfloat16");
  EXPECT_THROW(parse_user_dtype("int8"), Error);
  for (size_t i = 0; i < enum_names(DType{}).size(); ++i)
    EXPECT_EQ(parse_enum<DType>(enum_names(DType{})[i]), static_cast<DType>(i));
}

TEST(HostTensor, HoldsBytesAndValues) {
  HostTensor tensor(parse_type("bf16[2, 2]"), {1, 0.1, -2, 3});
  round_values(tensor);
  EXPECT_EQ(tensor.values[1], rounded(DType::kBF16, 0.1));
  EXPECT_NE(tensor.values[1], 0.1);
  std::vector<std::byte> bytes = tensor.bytes();
  EXPECT_EQ(bytes.size(), 8u);
  EXPECT_EQ(HostTensor(TensorView{tensor.type, bytes.data()}).values, tensor.values);
  EXPECT_EQ(widened(tensor).type, parse_type("f64[2, 2]"));
  EXPECT_THROW(HostTensor(parse_type("f32[3]"), {1, 2}), Error);
}

}  // namespace
}  // namespace ingot
