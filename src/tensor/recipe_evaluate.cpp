#include <cmath>
#include <numbers>
#include <optional>

#include "base/error.h"
#include "base/fields.h"
#include "tensor/recipe.h"

namespace ingot {

namespace recipe {

namespace {

constexpr int64_t kMaxElements = int64_t{1} << 56;  // so that sizes in bytes never overflow

// Throws unless every dimension is at least 1 and the element count is within the limit.
TensorType checked(TensorType type) {
  int64_t elements = 1;
  for (const Dim& dim : type.shape) {
    if (dim.constant() < 1) fail(ErrorCode::kRuntime, "{} has no elements", print(type));
    if (__builtin_mul_overflow(elements, dim.constant(), &elements) || elements > kMaxElements)
      fail(ErrorCode::kRuntime, "{} has too many elements", print(type));
  }
  return type;
}

void need_float(const TensorType& type) {
  if (!is_float(type.dtype)) fail(ErrorCode::kRuntime, "arithmetic needs floats, found {}", print(type));
}

TensorType arithmetic(std::initializer_list<const TensorType*> inputs, const Shape& shape) {
  TensorType type{DType::kF32, shape, ""};
  for (const TensorType* input : inputs) {
    need_float(*input);
    if (input->dtype == DType::kF64) type.dtype = DType::kF64;
  }
  return type;
}

struct Typing {
  const std::vector<TensorType>& inputs;
  const TensorType* leaf;

  const TensorType& first() const { return inputs[0]; }

  TensorType operator()(const Tensor&) const {
    if (!leaf->layout.empty()) fail(ErrorCode::kRuntime, "{} is not row major", print(*leaf));
    return *leaf;
  }
  TensorType operator()(const Constant& c) const { return {DType::kF32, {static_cast<int64_t>(c.values.size())}, ""}; }
  TensorType operator()(const RopeFrequencies& p) const { return {DType::kF32, {p.rotary_dim / 2}, ""}; }
  TensorType operator()(const Cast& c) const { return {c.dtype, first().shape, ""}; }

  TensorType operator()(const Concat&) const {
    TensorType type = first();
    int64_t rows = 0;
    for (const TensorType& part : inputs) {
      bool fits = part.rank() == type.rank() && part.rank() >= 1 && part.dtype == type.dtype;
      for (size_t i = 1; fits && i < part.shape.size(); ++i) fits = part.shape[i] == type.shape[i];
      if (!fits)
        fail(ErrorCode::kRuntime, "concat of {} and {}, which must agree in dtype and in all axes but the first",
             print(first()), print(part));
      if (__builtin_add_overflow(rows, part.shape[0].constant(), &rows))
        fail(ErrorCode::kRuntime, "concat of too many rows");
    }
    type.shape[0] = rows;
    return type;
  }

  TensorType operator()(const Stack&) const {
    for (const TensorType& part : inputs)
      if (part != first())
        fail(ErrorCode::kRuntime, "stack of {} and {}, which must have the same type", print(first()), print(part));
    TensorType type = first();
    type.shape.insert(type.shape.begin(), static_cast<int64_t>(inputs.size()));
    return type;
  }

  TensorType operator()(const Transpose&) const {
    if (first().rank() != 2) fail(ErrorCode::kRuntime, "transpose needs a matrix, found {}", print(first()));
    return {first().dtype, {first().shape[1], first().shape[0]}, ""};
  }

  TensorType operator()(const Slice& s) const {
    TensorType type = first();
    if (s.axis >= type.rank() || s.end > type.shape[static_cast<size_t>(s.axis)].constant())
      fail(ErrorCode::kRuntime, "slice of the elements {} to {} of axis {} of {}, which does not have them", s.begin,
           s.end, s.axis, print(type));
    type.shape[static_cast<size_t>(s.axis)] = s.end - s.begin;
    return type;
  }

  TensorType operator()(const Reshape& r) const {
    TensorType type = checked({first().dtype, {r.shape.begin(), r.shape.end()}, ""});
    if (type.elements() != first().elements())
      fail(ErrorCode::kRuntime, "reshape of {} to {}, which has another number of elements", print(first()),
           print(type));
    return type;
  }

  TensorType operator()(const Add&) const { return arithmetic({&first()}, first().shape); }
  TensorType operator()(const Scale&) const { return arithmetic({&first()}, first().shape); }

  TensorType operator()(const Mul&) const {
    const TensorType& factors = inputs[1];
    bool same = factors.shape == first().shape;
    bool last = factors.rank() == 1 && first().rank() >= 1 && factors.shape[0] == first().shape.back();
    if (!same && !last)
      fail(ErrorCode::kRuntime, "mul of {} and {}, which must have the same shape or fit the last axis", print(first()),
           print(factors));
    return arithmetic({&first(), &factors}, first().shape);
  }

  TensorType operator()(const MulRows&) const {
    const TensorType& factors = inputs[1];
    if (factors.rank() != 1 || first().rank() < 1 || factors.shape[0] != first().shape[0])
      fail(ErrorCode::kRuntime, "mul_rows of {} and {}, which must fit the first axis", print(first()), print(factors));
    return arithmetic({&first(), &factors}, first().shape);
  }

  TensorType operator()(const Pack& pack) const {
    if (first().rank() != 2 && first().rank() != 3)
      fail(ErrorCode::kRuntime, "pack needs rank 2 or 3, found {}", print(first()));
    TensorType type = first();
    type.layout = pack.layout;
    return type;
  }
};

}  // namespace

TensorType infer_node(const RecipeNode& node, const std::vector<TensorType>& inputs, const TensorType* leaf) {
  return checked(std::visit(Typing{inputs, leaf}, node.kind));
}

std::vector<float> inverse_frequencies(const RopeFrequencies& p) {
  std::vector<float> frequencies(static_cast<size_t>(p.rotary_dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    float exponent = static_cast<float>(2 * i) / static_cast<float>(p.rotary_dim);
    float period = static_cast<float>(std::pow(p.theta, static_cast<double>(exponent)));
    float frequency = 1.0f / period;
    if (p.type == RopeType::kLinear) frequency /= static_cast<float>(p.factor);
    if (p.type == RopeType::kLongrope) frequency = 1.0f / (p.factors[i] * period);
    if (p.type == RopeType::kLlama3) {
      double positions = static_cast<double>(p.original_max_position_embeddings);
      float wavelength = 2 * std::numbers::pi_v<float> / frequency;
      float scaled = frequency / static_cast<float>(p.factor);
      if (wavelength > positions / p.low_freq_factor) {
        frequency = scaled;
      } else if (wavelength >= positions / p.high_freq_factor) {
        float low = static_cast<float>(p.low_freq_factor), high = static_cast<float>(p.high_freq_factor);
        float smooth = (static_cast<float>(positions) / wavelength - low) / (high - low);
        frequency = (1 - smooth) * frequency / static_cast<float>(p.factor) + smooth * frequency;
      }
    }
    frequencies[i] = frequency;
  }
  return frequencies;
}

namespace {

std::vector<double> doubles(const std::vector<float>& values) { return {values.begin(), values.end()}; }

// The values of a node, not yet rounded to its type.
struct Evaluation {
  std::vector<HostTensor>& inputs;
  const TensorType& type;

  std::vector<double>& first() const { return inputs[0].values; }

  std::vector<double> operator()(const Tensor&) const { return {}; }  // the caller has the values
  std::vector<double> operator()(const Constant& c) const { return doubles(c.values); }
  std::vector<double> operator()(const RopeFrequencies& p) const { return doubles(inverse_frequencies(p)); }
  std::vector<double> operator()(const Cast&) const { return std::move(first()); }
  std::vector<double> operator()(const Reshape&) const { return std::move(first()); }
  std::vector<double> operator()(const Pack&) const { return std::move(first()); }
  std::vector<double> operator()(const Stack&) const { return operator()(Concat{}); }

  std::vector<double> operator()(const Concat&) const {
    std::vector<double> values;
    for (const HostTensor& part : inputs) values.insert(values.end(), part.values.begin(), part.values.end());
    return values;
  }

  std::vector<double> operator()(const Transpose&) const {
    int64_t rows = inputs[0].size(0), cols = inputs[0].size(1);
    std::vector<double> values;
    for (int64_t c = 0; c < cols; ++c)
      for (int64_t r = 0; r < rows; ++r) values.push_back(first()[static_cast<size_t>(r * cols + c)]);
    return values;
  }

  std::vector<double> operator()(const Slice& s) const {
    int64_t inner = 1, size = inputs[0].size(s.axis);
    for (int64_t axis = s.axis + 1; axis < type.rank(); ++axis) inner *= inputs[0].size(axis);
    std::vector<double> values;
    for (int64_t i = 0; i < static_cast<int64_t>(first().size()); ++i) {
      int64_t index = i / inner % size;
      if (index >= s.begin && index < s.end) values.push_back(first()[static_cast<size_t>(i)]);
    }
    return values;
  }

  std::vector<double> operator()(const Add& add) const {
    for (double& value : first()) value += add.number;
    return std::move(first());
  }
  std::vector<double> operator()(const Scale& scale) const {
    for (double& value : first()) value *= scale.number;
    return std::move(first());
  }

  std::vector<double> operator()(const Mul&) const {
    const std::vector<double>& factors = inputs[1].values;
    for (size_t i = 0; i < first().size(); ++i) first()[i] *= factors[i % factors.size()];
    return std::move(first());
  }
  std::vector<double> operator()(const MulRows&) const {
    const std::vector<double>& factors = inputs[1].values;
    size_t inner = first().size() / factors.size();
    for (size_t i = 0; i < first().size(); ++i) first()[i] *= factors[i / inner];
    return std::move(first());
  }
};

HostTensor evaluate_node(const Recipe& recipe, const std::function<HostTensor(std::string_view)>& leaf,
                         Rounding rounding) {
  const RecipeNode& node = recipe.node();
  std::vector<HostTensor> inputs;
  std::vector<TensorType> types;
  for (const Recipe& input : node.inputs) {
    inputs.push_back(evaluate_node(input, leaf, rounding));
    types.push_back(inputs.back().type);
  }
  if (const auto* tensor = std::get_if<Tensor>(&node.kind)) {
    HostTensor value = leaf(tensor->name);
    infer_node(node, {}, &value.type);
    return rounding == Rounding::kNone ? widened(value) : value;
  }
  HostTensor result;
  result.type = infer_node(node, types, nullptr);
  result.type.layout.clear();
  result.values = std::visit(Evaluation{inputs, result.type}, node.kind);
  if (rounding == Rounding::kNone) return widened(result);
  round_values(result);
  return result;
}

TensorType infer_tree(const Recipe& recipe, const std::function<TensorType(std::string_view)>& leaf_type) {
  std::vector<TensorType> inputs;
  for (const Recipe& input : recipe.node().inputs) inputs.push_back(infer_tree(input, leaf_type));
  std::optional<TensorType> leaf;
  if (const auto* tensor = std::get_if<Tensor>(&recipe.node().kind)) leaf = leaf_type(tensor->name);
  return infer_node(recipe.node(), inputs, leaf ? &*leaf : nullptr);
}

}  // namespace
}  // namespace recipe

TensorType infer(const Recipe& recipe, const std::function<TensorType(std::string_view)>& leaf_type) {
  return recipe::infer_tree(recipe, leaf_type);
}

HostTensor evaluate(const Recipe& recipe, const std::function<HostTensor(std::string_view)>& leaf, Rounding rounding) {
  return recipe::evaluate_node(recipe, leaf, rounding);
}

}  // namespace ingot
