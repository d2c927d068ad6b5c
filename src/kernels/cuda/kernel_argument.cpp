#include "kernels/cuda/kernel_argument.h"

#include <charconv>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fields.h"
#include "kernels/cuda/size_expression.h"

namespace ingot {

namespace {

template <class T>
void store(ArgumentValue& value, const T& number) {
  static_assert(sizeof(T) <= sizeof value.bytes);
  std::memcpy(value.bytes, &number, sizeof number);
}

const Argument& buffer_at(const Launch& launch, size_t index) {
  if (index >= launch.arguments.size())
    fail(ErrorCode::kIncompatible, "the step has {} buffers and no buffer {}", launch.arguments.size(), index);
  return launch.arguments[index];
}

class BufferArgument final : public KernelArgument {
 public:
  explicit BufferArgument(size_t index) : index_(index) {}
  void write(const Launch& launch, const cuda::Device&, ArgumentValue& value) const override {
    store(value, buffer_at(launch, index_).data);
  }

 private:
  size_t index_;
};

class ScratchArgument final : public KernelArgument {
 public:
  explicit ScratchArgument(SizeExpression offset) : offset_(std::move(offset)) {}
  void write(const Launch& launch, const cuda::Device& device, ArgumentValue& value) const override {
    store(value, launch.scratch + offset_.evaluate(launch.arguments, device.facts().multiprocessors));
  }

 private:
  SizeExpression offset_;
};

template <class T>
class SizeArgument final : public KernelArgument {
 public:
  explicit SizeArgument(SizeExpression size) : size_(std::move(size)) {}
  void write(const Launch& launch, const cuda::Device& device, ArgumentValue& value) const override {
    store(value, static_cast<T>(size_.evaluate(launch.arguments, device.facts().multiprocessors)));
  }

 private:
  SizeExpression size_;
};

class FloatArgument final : public KernelArgument {
 public:
  explicit FloatArgument(float number) : number_(number) {}
  void write(const Launch&, const cuda::Device&, ArgumentValue& value) const override { store(value, number_); }

 private:
  float number_;
};

struct MapForm {
  size_t buffer = 0;
  DType dtype = DType::kBF16;
  std::vector<SizeExpression> dims, strides;
  std::vector<uint32_t> box;
  int swizzle = 0;
};

class MapArgument final : public KernelArgument {
 public:
  explicit MapArgument(MapForm form) : form_(std::move(form)) {}

  void write(const Launch& launch, const cuda::Device& device, ArgumentValue& value) const override {
    constexpr size_t kMaxRank = 4;
    std::array<uint64_t, kMaxRank> dims{}, strides{};
    std::array<uint32_t, kMaxRank> box{}, steps{1, 1, 1, 1};
    size_t rank = form_.dims.size();
    int64_t sms = device.facts().multiprocessors;
    for (size_t i = 0; i < rank; ++i) {
      dims[i] = static_cast<uint64_t>(form_.dims[i].evaluate(launch.arguments, sms));
      box[i] = form_.box[i];
      if (i > 0) strides[i - 1] = static_cast<uint64_t>(form_.strides[i - 1].evaluate(launch.arguments, sms));
      if (dims[i] == 0) return;  // nothing is read through an empty map, and the driver refuses to make one
    }
    cuda::CUtensorMap map;
    device.check(device.driver().cuTensorMapEncodeTiled(
                     &map, type(), static_cast<uint32_t>(rank), buffer_at(launch, form_.buffer).data, dims.data(),
                     strides.data(), box.data(), steps.data(), cuda::CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle(),
                     cuda::CU_TENSOR_MAP_L2_PROMOTION_L2_256B, cuda::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
                 "cuTensorMapEncodeTiled");
    store(value, map);
  }

 private:
  cuda::CUtensorMapDataType type() const {
    switch (form_.dtype) {
      case DType::kBF16:
        return cuda::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
      case DType::kF16:
        return cuda::CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
      default:
        return cuda::CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    }
  }
  cuda::CUtensorMapSwizzle swizzle() const {
    switch (form_.swizzle) {
      case 32:
        return cuda::CU_TENSOR_MAP_SWIZZLE_32B;
      case 64:
        return cuda::CU_TENSOR_MAP_SWIZZLE_64B;
      case 128:
        return cuda::CU_TENSOR_MAP_SWIZZLE_128B;
      default:
        return cuda::CU_TENSOR_MAP_SWIZZLE_NONE;
    }
  }
  MapForm form_;
};

// Reads the words and bracketed lists behind an argument's kind.
class ArgumentText {
 public:
  explicit ArgumentText(std::string_view text) : whole_(text), rest_(text) {}

  std::string_view word() {
    skip_spaces();
    size_t end = std::min(rest_.find(' '), rest_.size());
    std::string_view word = rest_.substr(0, end);
    rest_.remove_prefix(end);
    return word;
  }
  std::string_view rest() {
    skip_spaces();
    return std::exchange(rest_, {});
  }
  template <class T>
  T number(std::string_view text) const {
    T value{};
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || text.empty()) refuse("a number");
    return value;
  }
  // "name=VALUE", where VALUE is a word or "[…]".
  std::string_view value_of(std::string_view name) {
    skip_spaces();
    if (!rest_.starts_with(name) || rest_.size() <= name.size() || rest_[name.size()] != '=') refuse(name);
    rest_.remove_prefix(name.size() + 1);
    if (!rest_.starts_with('[')) return word();
    size_t end = rest_.find(']');
    if (end == std::string_view::npos) refuse("]");
    std::string_view list = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    return list;
  }
  void end() {
    skip_spaces();
    if (!rest_.empty()) refuse("nothing more");
  }
  [[noreturn]] void refuse(std::string_view needed) const {
    fail(ErrorCode::kIncompatible, "the kernel argument \"{}\" needs {}", whole_, needed);
  }

 private:
  void skip_spaces() {
    while (rest_.starts_with(' ')) rest_.remove_prefix(1);
  }
  std::string_view whole_, rest_;
};

// The parts between the commas of a list that lie outside parentheses.
std::vector<std::string_view> split(std::string_view list) {
  std::vector<std::string_view> parts;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i <= list.size(); ++i) {
    if (i == list.size() || (list[i] == ',' && depth == 0)) {
      if (i > begin) parts.push_back(list.substr(begin, i - begin));
      begin = i + 1;
    } else {
      depth += list[i] == '(' ? 1 : list[i] == ')' ? -1 : 0;
    }
  }
  return parts;
}

MapForm parse_map(ArgumentText& text) {
  MapForm form;
  form.buffer = text.number<size_t>(text.word());
  try {
    form.dtype = parse_enum<DType>(text.value_of("dtype"));
  } catch (const Error& error) {
    throw error.with_code(ErrorCode::kIncompatible);
  }
  for (std::string_view dim : split(text.value_of("dims"))) form.dims.push_back(SizeExpression::parse(dim));
  for (std::string_view stride : split(text.value_of("strides"))) form.strides.push_back(SizeExpression::parse(stride));
  for (std::string_view size : split(text.value_of("box"))) {
    while (size.starts_with(' ')) size.remove_prefix(1);
    form.box.push_back(text.number<uint32_t>(size));
  }
  form.swizzle = text.number<int>(text.value_of("swizzle"));
  size_t rank = form.dims.size();
  if (rank < 2 || rank > 4 || form.strides.size() != rank - 1 || form.box.size() != rank)
    text.refuse("2 to 4 dims, one stride less, and a box of as many");
  if (form.swizzle != 0 && form.swizzle != 32 && form.swizzle != 64 && form.swizzle != 128)
    text.refuse("a swizzle of 0, 32, 64 or 128");
  if (form.dtype != DType::kBF16 && form.dtype != DType::kF16 && form.dtype != DType::kF32)
    text.refuse("the dtype bf16, f16 or f32");
  return form;
}

}  // namespace

std::unique_ptr<KernelArgument> parse_kernel_argument(std::string_view whole) {
  ArgumentText text(whole);
  std::string_view kind = text.word();
  std::unique_ptr<KernelArgument> argument;
  if (kind == "buf")
    argument = std::make_unique<BufferArgument>(text.number<size_t>(text.word()));
  else if (kind == "scratch")
    argument = std::make_unique<ScratchArgument>(SizeExpression::parse(text.rest()));
  else if (kind == "i32")
    argument = std::make_unique<SizeArgument<int32_t>>(SizeExpression::parse(text.rest()));
  else if (kind == "i64")
    argument = std::make_unique<SizeArgument<int64_t>>(SizeExpression::parse(text.rest()));
  else if (kind == "f32")
    argument = std::make_unique<FloatArgument>(text.number<float>(text.word()));
  else if (kind == "map")
    argument = std::make_unique<MapArgument>(parse_map(text));
  else
    text.refuse("buf, scratch, i32, i64, f32 or map");
  text.end();
  return argument;
}

}  // namespace ingot
