#include "weights/element_source.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

namespace ingot {

ElementSource::Run ElementSource::run(int64_t) const { return {}; }

Elements::Elements(const ElementSource& source, int64_t begin, int64_t count) {
  ElementSource::Run run = source.run(begin);
  data_ = run.data;
  if (run.count >= count) return;
  buffer_ = std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(count * size_of(source.type().dtype)));
  source.fill(begin, count, buffer_.get());
  data_ = buffer_.get();
}

namespace {

using Source = std::unique_ptr<const ElementSource>;
using Sources = std::vector<Source>;
using Run = ElementSource::Run;

int64_t product(const Shape& shape, int64_t begin, int64_t end) {
  int64_t elements = 1;
  for (int64_t i = begin; i < end; ++i) elements *= shape[static_cast<size_t>(i)].constant();
  return elements;
}

// Elements of a mapped tensor, or of one whose values are in `owned`.
class InMemory : public ElementSource {
 public:
  InMemory(TensorType type, const void* data)
      : ElementSource(std::move(type)),
        elements_(this->type().elements()),
        data_(static_cast<const std::byte*>(data)) {}
  InMemory(TensorType type, std::vector<float> owned)
      : ElementSource(std::move(type)),
        owned_(std::move(owned)),
        elements_(this->type().elements()),
        data_(reinterpret_cast<const std::byte*>(owned_.data())) {}

  void fill(int64_t begin, int64_t count, std::byte* out) const override {
    std::memcpy(out, run(begin).data, static_cast<size_t>(count * size_of(type().dtype)));
  }
  Run run(int64_t begin) const override { return {data_ + begin * size_of(type().dtype), elements_ - begin}; }

 private:
  std::vector<float> owned_;
  int64_t elements_;
  const std::byte* data_;
};

class RandomLeaf : public ElementSource {
 public:
  RandomLeaf(TensorType type, std::string name, const Checkpoint& checkpoint)
      : ElementSource(std::move(type)), name_(std::move(name)), checkpoint_(checkpoint) {}
  void fill(int64_t begin, int64_t count, std::byte* out) const override { checkpoint_.read(name_, begin, count, out); }

 private:
  std::string name_;
  const Checkpoint& checkpoint_;
};

class CastSource : public ElementSource {
 public:
  CastSource(TensorType type, Source input)
      : ElementSource(std::move(type)),
        input_(std::move(input)),
        is_same_(this->type().dtype == input_->type().dtype) {}
  void fill(int64_t begin, int64_t count, std::byte* out) const override {
    if (is_same_) return input_->fill(begin, count, out);
    Elements elements(*input_, begin, count);
    convert(input_->type().dtype, elements.data(), type().dtype, out, count);
  }
  Run run(int64_t begin) const override { return is_same_ ? input_->run(begin) : Run{}; }
  int64_t granularity() const override { return input_->granularity(); }

 private:
  Source input_;
  bool is_same_;
};

// Reshape: the same elements under another type.
class Renamed : public ElementSource {
 public:
  Renamed(TensorType type, Source input) : ElementSource(std::move(type)), input_(std::move(input)) {}
  void fill(int64_t begin, int64_t count, std::byte* out) const override { input_->fill(begin, count, out); }
  Run run(int64_t begin) const override { return input_->run(begin); }
  int64_t granularity() const override { return input_->granularity(); }

 private:
  Source input_;
};

// Concat and stack: in row-major order both are one input after the other.
class Sequence : public ElementSource {
 public:
  Sequence(TensorType type, Sources inputs) : ElementSource(std::move(type)), inputs_(std::move(inputs)) {
    for (const Source& input : inputs_) ends_.push_back((ends_.empty() ? 0 : ends_.back()) + input->type().elements());
  }
  void fill(int64_t begin, int64_t count, std::byte* out) const override {
    while (count > 0) {
      size_t i = input_at(begin);
      int64_t taken = std::min(count, ends_[i] - begin);
      inputs_[i]->fill(begin - begin_of(i), taken, out);
      begin += taken, count -= taken, out += taken * size_of(type().dtype);
    }
  }
  Run run(int64_t begin) const override {
    size_t i = input_at(begin);
    return inputs_[i]->run(begin - begin_of(i));
  }
  int64_t granularity() const override {
    int64_t elements = 1;
    for (const Source& input : inputs_) elements = std::max(elements, input->granularity());
    return elements;
  }

 private:
  int64_t begin_of(size_t i) const { return i == 0 ? 0 : ends_[i - 1]; }
  size_t input_at(int64_t element) const {
    return static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), element) - ends_.begin());
  }

  Sources inputs_;
  std::vector<int64_t> ends_;  // of each input, in elements of the result
};

// Along any axis a slice is a row of equal pieces, at equal distances in the input.
class SliceSource : public ElementSource {
 public:
  SliceSource(TensorType type, Source input, const recipe::Slice& slice)
      : ElementSource(std::move(type)), input_(std::move(input)) {
    const Shape& shape = input_->type().shape;
    int64_t inner = product(shape, slice.axis + 1, input_->type().rank());
    distance_ = shape[static_cast<size_t>(slice.axis)].constant() * inner;
    first_ = slice.begin * inner;
    piece_ = (slice.end - slice.begin) * inner;
  }
  void fill(int64_t begin, int64_t count, std::byte* out) const override {
    while (count > 0) {
      int64_t taken = std::min(count, piece_ - begin % piece_);
      input_->fill(position(begin), taken, out);
      begin += taken, count -= taken, out += taken * size_of(type().dtype);
    }
  }
  Run run(int64_t begin) const override {
    Run run = input_->run(position(begin));
    if (distance_ != piece_) run.count = std::min(run.count, piece_ - begin % piece_);
    return run;
  }
  int64_t granularity() const override { return input_->granularity(); }

 private:
  int64_t position(int64_t begin) const { return begin / piece_ * distance_ + first_ + begin % piece_; }

  Source input_;
  int64_t first_, piece_, distance_;
};

// out[c * out_stride + r] = in[r * in_stride + c], strides in elements; squares keep both sides in the first-level
// cache.
template <class T>
void transpose_block(const std::byte* in, int64_t in_stride, int64_t rows, int64_t cols, std::byte* out,
                     int64_t out_stride) {
  constexpr int64_t kSquare = 16, kSize = sizeof(T);
  for (int64_t r0 = 0; r0 < rows; r0 += kSquare)
    for (int64_t c0 = 0; c0 < cols; c0 += kSquare)
      for (int64_t c = c0; c < std::min(c0 + kSquare, cols); ++c)
        for (int64_t r = r0; r < std::min(r0 + kSquare, rows); ++r)
          std::memcpy(out + (c * out_stride + r) * kSize, in + (r * in_stride + c) * kSize, sizeof(T));
}

// A range of result rows is a range of input columns: gathered from blocks of input rows.
class TransposeSource : public ElementSource {
 public:
  TransposeSource(TensorType type, Source input)
      : ElementSource(std::move(type)),
        input_(std::move(input)),
        cols_(this->type().shape[0].constant()),
        rows_(this->type().shape[1].constant()) {}

  void fill(int64_t begin, int64_t count, std::byte* out) const override {
    while (count > 0) {
      int64_t col = begin / rows_, row = begin % rows_;
      bool whole = row == 0 && count >= rows_;
      int64_t cols = whole ? count / rows_ : 1, rows = whole ? rows_ : std::min(count, rows_ - row);
      gather(row, rows, col, cols, out);
      begin += rows * cols, count -= rows * cols, out += rows * cols * size_of(type().dtype);
    }
  }
  int64_t granularity() const override { return rows_; }

 private:
  // The input elements [row, row + rows) x [col, col + cols), transposed; one column, or whole columns.
  void gather(int64_t row, int64_t rows, int64_t col, int64_t cols, std::byte* out) const {
    int64_t size = size_of(type().dtype), last = (row + rows - 1) * cols_ + col + cols;
    Run run = input_->run(row * cols_ + col);
    if (run.count >= last - (row * cols_ + col)) return block(run.data, cols_, rows, cols, out, rows);
    constexpr int64_t kRows = 64;
    auto buffer = std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(kRows * cols * size));
    for (int64_t r0 = 0; r0 < rows; r0 += kRows) {
      int64_t n = std::min(kRows, rows - r0);
      for (int64_t r = 0; r < n; ++r) input_->fill((row + r0 + r) * cols_ + col, cols, buffer.get() + r * cols * size);
      block(buffer.get(), cols, n, cols, out + r0 * size, rows);
    }
  }

  void block(const std::byte* in, int64_t in_stride, int64_t rows, int64_t cols, std::byte* out,
             int64_t out_stride) const {
    switch (size_of(type().dtype)) {
      case 1:
        return transpose_block<uint8_t>(in, in_stride, rows, cols, out, out_stride);
      case 2:
        return transpose_block<uint16_t>(in, in_stride, rows, cols, out, out_stride);
      case 4:
        return transpose_block<uint32_t>(in, in_stride, rows, cols, out, out_stride);
      default:
        return transpose_block<uint64_t>(in, in_stride, rows, cols, out, out_stride);
    }
  }

  Source input_;
  int64_t cols_, rows_;  // of the input
};

// --- arithmetic ---------------------------------------------------------------------------------------------------

template <class T>
constexpr DType kDTypeOf = std::is_same_v<T, double> ? DType::kF64 : DType::kF32;

template <class T>
T load_at(const std::byte* data, int64_t i) {
  T value;
  std::memcpy(&value, data + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}
template <class T>
void store_at(std::byte* data, int64_t i, T value) {
  std::memcpy(data + i * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
}

// The range of `source` as T, written to `out`.
template <class T>
void fill_as(const ElementSource& source, int64_t begin, int64_t count, std::byte* out) {
  if (source.type().dtype == kDTypeOf<T>) return source.fill(begin, count, out);
  Elements elements(source, begin, count);
  convert(source.type().dtype, elements.data(), kDTypeOf<T>, out, count);
}

// add and scale: every element through a function of one double, rounded once to T.
template <class T, class F>
class Mapped : public ElementSource {
 public:
  Mapped(TensorType type, Source input, F function)
      : ElementSource(std::move(type)), input_(std::move(input)), function_(function) {}
  void fill(int64_t begin, int64_t count, std::byte* out) const override {
    fill_as<T>(*input_, begin, count, out);
    for (int64_t i = 0; i < count; ++i) store_at<T>(out, i, static_cast<T>(function_(double{load_at<T>(out, i)})));
  }
  int64_t granularity() const override { return input_->granularity(); }

 private:
  Source input_;
  F function_;
};

// mul of equal shapes.
template <class T>
class Product : public ElementSource {
 public:
  Product(TensorType type, Source input, Source factors)
      : ElementSource(std::move(type)), input_(std::move(input)), factors_(std::move(factors)) {}
  void fill(int64_t begin, int64_t count, std::byte* out) const override {
    fill_as<T>(*input_, begin, count, out);
    auto factors = std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(count) * sizeof(T));
    fill_as<T>(*factors_, begin, count, factors.get());
    for (int64_t i = 0; i < count; ++i) store_at<T>(out, i, load_at<T>(out, i) * load_at<T>(factors.get(), i));
  }
  int64_t granularity() const override { return std::max(input_->granularity(), factors_->granularity()); }

 private:
  Source input_, factors_;
};

// mul along the last axis and mul_rows: a vector of factors, each of which holds for `repeat` elements in turn. Rows
// take each factor once, columns all of them again and again.
template <class T>
class VectorProduct : public ElementSource {
 public:
  VectorProduct(TensorType type, Source input, Source factors, int64_t repeat)
      : ElementSource(std::move(type)),
        input_(std::move(input)),
        repeat_(repeat),
        factors_(static_cast<size_t>(factors->type().elements())) {
    fill_as<T>(*factors, 0, static_cast<int64_t>(factors_.size()), reinterpret_cast<std::byte*>(factors_.data()));
  }
  void fill(int64_t begin, int64_t count, std::byte* out) const override {
    fill_as<T>(*input_, begin, count, out);
    if (repeat_ == 1) return multiply_columns(begin, count, out);
    size_t factor = static_cast<size_t>(begin / repeat_);
    for (int64_t i = 0; i < count; ++factor)
      for (int64_t end = std::min(count, i + repeat_ - (begin + i) % repeat_); i < end; ++i) multiply(out, i, factor);
  }
  int64_t granularity() const override { return input_->granularity(); }

 private:
  void multiply(std::byte* out, int64_t i, size_t factor) const {
    store_at<T>(out, i, load_at<T>(out, i) * factors_[factor]);
  }
  void multiply_columns(int64_t begin, int64_t count, std::byte* out) const {
    int64_t cols = static_cast<int64_t>(factors_.size()), col = begin % cols;
    for (int64_t i = 0; i < count; col = 0)
      for (int64_t end = std::min(count, i + cols - col); i < end; ++i, ++col)
        multiply(out, i, static_cast<size_t>(col));
  }

  Source input_;
  int64_t repeat_;  // 1 for columns; the length of a row for rows
  std::vector<T> factors_;
};

// --- from nodes to sources ----------------------------------------------------------------------------------------

struct Builder {
  const Checkpoint& checkpoint;
  TensorType type;  // of the node
  Sources inputs;

  Source first() { return std::move(inputs[0]); }

  Source operator()(const recipe::Tensor& tensor) {
    if (checkpoint.is_random()) return std::make_unique<RandomLeaf>(type, tensor.name, checkpoint);
    return std::make_unique<InMemory>(type, checkpoint.view(tensor.name).data);
  }
  Source operator()(const recipe::Constant& constant) { return std::make_unique<InMemory>(type, constant.values); }
  Source operator()(const recipe::RopeFrequencies& parameters) {
    return std::make_unique<InMemory>(type, recipe::inverse_frequencies(parameters));
  }
  Source operator()(const recipe::Cast&) { return std::make_unique<CastSource>(type, first()); }
  Source operator()(const recipe::Concat&) { return std::make_unique<Sequence>(type, std::move(inputs)); }
  Source operator()(const recipe::Stack&) { return std::make_unique<Sequence>(type, std::move(inputs)); }
  Source operator()(const recipe::Reshape&) { return std::make_unique<Renamed>(type, first()); }
  Source operator()(const recipe::Pack&) { return std::make_unique<Renamed>(type, first()); }
  Source operator()(const recipe::Transpose&) { return std::make_unique<TransposeSource>(type, first()); }
  Source operator()(const recipe::Slice& slice) { return std::make_unique<SliceSource>(type, first(), slice); }
  Source operator()(const recipe::Add& add) {
    return map([number = add.number](double x) { return x + number; });
  }
  Source operator()(const recipe::Scale& scale) {
    return map([number = scale.number](double x) { return x * number; });
  }
  Source operator()(const recipe::Mul&) {
    if (inputs[0]->type().shape != inputs[1]->type().shape) return vector_product(1);
    if (type.dtype == DType::kF64) return std::make_unique<Product<double>>(type, first(), std::move(inputs[1]));
    return std::make_unique<Product<float>>(type, first(), std::move(inputs[1]));
  }
  Source operator()(const recipe::MulRows&) { return vector_product(product(type.shape, 1, type.rank())); }

  template <class F>
  Source map(F function) {
    if (type.dtype == DType::kF64) return std::make_unique<Mapped<double, F>>(type, first(), function);
    return std::make_unique<Mapped<float, F>>(type, first(), function);
  }
  Source vector_product(int64_t repeat) {
    if (type.dtype == DType::kF64)
      return std::make_unique<VectorProduct<double>>(type, first(), std::move(inputs[1]), repeat);
    return std::make_unique<VectorProduct<float>>(type, first(), std::move(inputs[1]), repeat);
  }
};

}  // namespace

Source make_source(const Recipe& recipe, const Checkpoint& checkpoint) {
  const RecipeNode& node = recipe.node();
  Sources inputs;
  std::vector<TensorType> types;
  for (const Recipe& input : node.inputs) {
    inputs.push_back(make_source(input, checkpoint));
    types.push_back(inputs.back()->type());
  }
  const auto* tensor = std::get_if<recipe::Tensor>(&node.kind);
  const TensorType* leaf = tensor ? &checkpoint.type(tensor->name) : nullptr;
  TensorType type = recipe::infer_node(node, types, leaf);
  return std::visit(Builder{checkpoint, std::move(type), std::move(inputs)}, node.kind);
}

}  // namespace ingot
