#include "tensor/dtype.h"

#include <array>
#include <cstring>

#include "base/error.h"
#include "base/fields.h"

namespace ingot {

namespace {
constexpr std::array<std::string_view, 9> kNames = {"f64", "f32", "f16", "bf16", "i64", "i32", "i8", "u8", "bool"};
constexpr int kSizes[] = {8, 4, 2, 2, 8, 4, 1, 1, 1};

template <class T>
T load(const void* data, int64_t index) {
  T value;
  std::memcpy(&value, static_cast<const char*>(data) + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}
template <class T>
void store(void* data, int64_t index, T value) {
  std::memcpy(static_cast<char*>(data) + index * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
}
}  // namespace

std::span<const std::string_view> enum_names(DType) { return kNames; }
int64_t size_of(DType dtype) { return kSizes[static_cast<int>(dtype)]; }
bool is_float(DType dtype) { return dtype <= DType::kBF16; }

DType parse_user_dtype(std::string_view name) {
  if (name == "float32" || name == "f32" || name == "fp32") return DType::kF32;
  if (name == "float16" || name == "f16" || name == "fp16" || name == "half") return DType::kF16;
  if (name == "bfloat16" || name == "bf16") return DType::kBF16;
  fail(ErrorCode::kUsage, "the dtype is float32, float16 or bfloat16, not \"{}\"", name);
}

std::string_view user_dtype_name(DType dtype) {
  if (dtype == DType::kF32) return "float32";
  if (dtype == DType::kF16) return "float16";
  if (dtype == DType::kBF16) return "bfloat16";
  return enum_name(dtype);
}

float f16_to_float(uint16_t bits) {
  uint32_t sign = uint32_t{bits & 0x8000u} << 16, exponent = (bits >> 10) & 31, mantissa = bits & 0x3ff;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000 | (mantissa << 13));
  if (exponent == 0) {
    float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

uint16_t float_to_f16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  bits &= 0x7fffffff;
  if (bits > 0x7f800000) return sign | 0x7e00;
  if (bits >= 0x47800000) return sign | 0x7c00;
  if (bits < 0x38800000) {  // below the smallest normal: let the adder round
    float magnitude = std::bit_cast<float>(bits) + 0.5f;
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(magnitude) - 0x3f000000);
  }
  uint32_t rounded = bits + 0xfff + ((bits >> 13) & 1);
  return sign | static_cast<uint16_t>((rounded - 0x38000000) >> 13);
}

double load_element(DType dtype, const void* data, int64_t i) {
  switch (dtype) {
    case DType::kF64:
      return load<double>(data, i);
    case DType::kF32:
      return load<float>(data, i);
    case DType::kF16:
      return f16_to_float(load<uint16_t>(data, i));
    case DType::kBF16:
      return bf16_to_float(load<uint16_t>(data, i));
    case DType::kI64:
      return static_cast<double>(load<int64_t>(data, i));
    case DType::kI32:
      return load<int32_t>(data, i);
    case DType::kI8:
      return load<int8_t>(data, i);
    case DType::kU8:
      return load<uint8_t>(data, i);
    case DType::kBool:
      return load<uint8_t>(data, i) != 0;
  }
  return 0;
}

void store_element(DType dtype, void* data, int64_t i, double value) {
  switch (dtype) {
    case DType::kF64:
      return store(data, i, value);
    case DType::kF32:
      return store(data, i, static_cast<float>(value));
    case DType::kF16:
      return store(data, i, float_to_f16(static_cast<float>(value)));
    case DType::kBF16:
      return store(data, i, float_to_bf16(static_cast<float>(value)));
    case DType::kI64:
      return store(data, i, static_cast<int64_t>(value));
    case DType::kI32:
      return store(data, i, static_cast<int32_t>(value));
    case DType::kI8:
      return store(data, i, static_cast<int8_t>(value));
    case DType::kU8:
      return store(data, i, static_cast<uint8_t>(value));
    case DType::kBool:
      return store(data, i, static_cast<uint8_t>(value != 0));
  }
}

namespace {
float to_float(DType dtype, const void* data, int64_t i) {
  if (dtype == DType::kBF16) return bf16_to_float(load<uint16_t>(data, i));
  if (dtype == DType::kF16) return f16_to_float(load<uint16_t>(data, i));
  return load<float>(data, i);
}
template <DType from, DType to>
void convert_loop(const void* source, void* target, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    float value = to_float(from, source, i);
    if constexpr (to == DType::kF32) store(target, i, value);
    if constexpr (to == DType::kBF16) store(target, i, float_to_bf16(value));
    if constexpr (to == DType::kF16) store(target, i, float_to_f16(value));
  }
}
}  // namespace

void convert(DType from, const void* source, DType to, void* target, int64_t count) {
  using enum DType;
  if (from == to) {
    if (count > 0) std::memcpy(target, source, static_cast<size_t>(count * size_of(from)));
    return;
  }
  if (from == kBF16 && to == kF32) return convert_loop<kBF16, kF32>(source, target, count);
  if (from == kF32 && to == kBF16) return convert_loop<kF32, kBF16>(source, target, count);
  if (from == kF16 && to == kF32) return convert_loop<kF16, kF32>(source, target, count);
  if (from == kF32 && to == kF16) return convert_loop<kF32, kF16>(source, target, count);
  if (from == kBF16 && to == kF16) return convert_loop<kBF16, kF16>(source, target, count);
  if (from == kF16 && to == kBF16) return convert_loop<kF16, kBF16>(source, target, count);
  for (int64_t i = 0; i < count; ++i) store_element(to, target, i, load_element(from, source, i));
}

}  // namespace ingot
