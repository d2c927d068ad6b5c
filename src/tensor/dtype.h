// Number types of tensors, and the conversions between them and float.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <string_view>

namespace ingot {

enum class DType { kF64, kF32, kF16, kBF16, kI64, kI32, kI8, kU8, kBool };

// The names of the text form: f64 f32 f16 bf16 i64 i32 i8 u8 bool.
std::span<const std::string_view> enum_names(DType);

int64_t size_of(DType dtype);  // bytes of one element
bool is_float(DType dtype);

// Accepts "float32", "float16", "bfloat16" (what users write and config.json holds) and the short names of the three.
// Throws a usage Error otherwise.
DType parse_user_dtype(std::string_view name);
std::string_view user_dtype_name(DType dtype);  // "bfloat16"

inline float bf16_to_float(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// Round to nearest, ties to even; NaN stays NaN.
inline uint16_t float_to_bf16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float f16_to_float(uint16_t bits);
uint16_t float_to_f16(float value);  // nearest even; overflows to infinity

// Element `index` of typed memory as a double, and back (rounded to nearest even, integers truncated).
double load_element(DType dtype, const void* data, int64_t index);
void store_element(DType dtype, void* data, int64_t index, double value);

// Converts `count` elements; float types only. Fast enough for whole weights.
void convert(DType from, const void* source, DType to, void* target, int64_t count);

}  // namespace ingot
