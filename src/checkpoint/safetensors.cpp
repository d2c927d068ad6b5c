#include "checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "base/json.h"

namespace ingot {

namespace {

constexpr uint64_t kPrefixBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format

constexpr std::pair<std::string_view, DType> kDTypes[] = {
    {"F64", DType::kF64}, {"F32", DType::kF32}, {"F16", DType::kF16}, {"BF16", DType::kBF16}, {"I64", DType::kI64},
    {"I32", DType::kI32}, {"I8", DType::kI8},   {"U8", DType::kU8},   {"BOOL", DType::kBool},
};

DType parse_dtype(const std::string& name) {
  std::vector<std::string> known;
  for (const auto& [text, dtype] : kDTypes) {
    if (text == name) return dtype;
    known.emplace_back(text);
  }
  fail(ErrorCode::kRuntime, "has the dtype \"{}\"; it must be one of {}", name, join(known));
}

// Checks the shape while reading it, so that elements() and bytes() cannot overflow afterwards.
TensorType parse_stored_type(const Json& entry) {
  TensorType type{parse_dtype(entry.at("dtype").as_string()), {}, ""};
  int64_t bytes = size_of(type.dtype);
  for (const Json& json : entry.at("shape").as_array()) {
    int64_t size = json.as_int();
    if (size < 0) fail(ErrorCode::kRuntime, "has the negative dimension {}", size);
    if (__builtin_mul_overflow(bytes, std::max<int64_t>(size, 1), &bytes))
      fail(ErrorCode::kRuntime, "has a shape whose size overflows");
    type.shape.emplace_back(size);
  }
  return type;
}

StoredTensor parse_entry(const std::string& name, const Json& entry, uint64_t data_begin, uint64_t data_bytes) {
  Scope scope(format("tensor \"{}\"", name));
  StoredTensor tensor{name, parse_stored_type(entry), 0, 0};
  const Json::Array& offsets = entry.at("data_offsets").as_array();
  if (offsets.size() != 2) fail(ErrorCode::kRuntime, "has {} data_offsets, it must have 2", offsets.size());
  int64_t begin = offsets[0].as_int(), end = offsets[1].as_int();
  if (begin < 0 || end < begin) fail(ErrorCode::kRuntime, "has the impossible data_offsets [{}, {}]", begin, end);
  if (static_cast<uint64_t>(end) > data_bytes)
    fail(ErrorCode::kRuntime, "ends at byte {} of the data, but the file holds only {}; it may be truncated", end,
         data_bytes);
  if (end - begin != tensor.type.bytes())
    fail(ErrorCode::kRuntime, "has data_offsets [{}, {}], {} bytes, but {} needs {}", begin, end, end - begin,
         print(tensor.type), tensor.type.bytes());
  tensor.offset = data_begin + static_cast<uint64_t>(begin);
  tensor.bytes = static_cast<uint64_t>(end - begin);
  return tensor;
}

// `tensors` are sorted by offset.
void check_coverage(const std::vector<StoredTensor>& tensors, uint64_t data_begin, uint64_t file_bytes) {
  uint64_t covered = data_begin;
  const std::string* before = nullptr;
  for (const StoredTensor& tensor : tensors) {
    if (tensor.offset < covered)
      fail(ErrorCode::kRuntime, "the tensor \"{}\" begins at byte {} of the data, inside of \"{}\", which ends at {}",
           tensor.name, tensor.offset - data_begin, before ? *before : "", covered - data_begin);
    if (tensor.offset > covered)
      fail(ErrorCode::kRuntime, "the bytes {} to {} of the data, before tensor \"{}\", belong to no tensor",
           covered - data_begin, tensor.offset - data_begin, tensor.name);
    covered = tensor.offset + tensor.bytes;
    before = &tensor.name;
  }
  if (covered != file_bytes)
    fail(ErrorCode::kRuntime, "{} bytes after the last tensor belong to no tensor", file_bytes - covered);
}

// The header text; the bytes after it are the data.
std::string_view header_of(std::span<const std::byte> file) {
  if (file.size() < kPrefixBytes)
    fail(ErrorCode::kRuntime, "has {} bytes, too few for a safetensors header", file.size());
  uint64_t size;
  std::memcpy(&size, file.data(), sizeof size);  // little endian, as every target of Ingot
  if (size > kMaxHeaderBytes)
    fail(ErrorCode::kRuntime,
         "says that its header has {} bytes, more than the format allows ({}); is it a safetensors file?", size,
         kMaxHeaderBytes);
  if (size > file.size() - kPrefixBytes)
    fail(ErrorCode::kRuntime, "says that its header has {} bytes, but only {} follow; it may be truncated", size,
         file.size() - kPrefixBytes);
  return {reinterpret_cast<const char*>(file.data()) + kPrefixBytes, static_cast<size_t>(size)};
}

}  // namespace

std::vector<StoredTensor> parse_safetensors(std::span<const std::byte> file) {
  std::string_view text = header_of(file);
  const Json header = parse_json(text);  // refuses a name that stands twice
  uint64_t data_begin = kPrefixBytes + text.size();
  std::vector<StoredTensor> tensors;
  for (const auto& [name, entry] : header.as_object())
    if (name != "__metadata__") tensors.push_back(parse_entry(name, entry, data_begin, file.size() - data_begin));
  std::sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  check_coverage(tensors, data_begin, file.size());
  return tensors;
}

SafetensorsFile::SafetensorsFile(const Path& path) : file_(path) {
  Scope scope(path.string());
  tensors_ = parse_safetensors(file_.bytes());
}

}  // namespace ingot
