// How a stored weight is made from checkpoint tensors: a small expression, as text and as a tree.
//
//   pack(cast(concat(model.layers.0.q.weight, model.layers.0.k.weight), bf16), tiles_16x32)
//
//   name, tensor("odd name")        a checkpoint tensor; a plain word needs neither tensor() nor quotes
//   constant([1, 0.5])              an f32 vector
//   rope_frequencies(10000, 64, default)   the f32 vector of rotary_dim / 2 inverse frequencies; after theta and
//                                   rotary_dim: default | linear, factor = F | llama3, factor = F, low_freq_factor = L,
//                                   high_freq_factor = H, original_max_position_embeddings = N | longrope, factors =
//                                   […]
//   cast(e, dtype)                  rounds to nearest even
//   concat(e, …), stack(e, …)       along axis 0; along a new axis 0
//   transpose(e)                    of a matrix
//   slice(e, axis, begin, end)      the elements begin … end - 1 of an axis
//   reshape(e, d0, d1, …)           the same elements in row-major order
//   add(e, number), scale(e, number)
//   mul(e, v)                       v: of the same shape, or a vector that multiplies the last axis
//   mul_rows(e, v)                  v: a vector that multiplies the first axis
//   pack(e, layout)                 a storage layout; outermost only
//
// Arithmetic takes floats and makes f32 (f64 when an input is f64), whatever narrower dtype its inputs have, so that
// cast(scale(x, s), bf16) rounds to bf16 once.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tensor/host_tensor.h"

namespace ingot {

struct RecipeNode;

// An immutable expression, cheap to copy. A default-constructed one is empty and may only be compared, copied and
// tested.
class Recipe {
 public:
  Recipe() = default;
  explicit Recipe(RecipeNode node);
  explicit operator bool() const { return node_ != nullptr; }
  const RecipeNode& node() const { return *node_; }
  bool operator==(const Recipe& other) const;  // the same expression

 private:
  std::shared_ptr<const RecipeNode> node_;
};

namespace recipe {

// Parsing and building refuse more than this: recipes also come from engine files.
constexpr int kMaxDepth = 64;
constexpr int64_t kMaxNodes = 65536;
constexpr size_t kMaxTextBytes = size_t{16} << 20;

enum class RopeType { kDefault, kLinear, kLlama3, kLongrope };
std::span<const std::string_view> enum_names(RopeType);

// The node kinds. A member that a RopeType does not use has its default value.
struct Tensor {
  std::string name;
  bool operator==(const Tensor&) const = default;
};
struct Constant {
  std::vector<float> values;
  bool operator==(const Constant&) const = default;
};
struct RopeFrequencies {
  double theta = 10000;
  int64_t rotary_dim = 0;
  RopeType type = RopeType::kDefault;
  double factor = 1, low_freq_factor = 1, high_freq_factor = 4;
  int64_t original_max_position_embeddings = 8192;
  std::vector<float> factors;  // rotary_dim / 2 of them
  bool operator==(const RopeFrequencies&) const = default;
};
struct Cast {
  DType dtype;
  bool operator==(const Cast&) const = default;
};
struct Concat {
  bool operator==(const Concat&) const = default;
};
struct Stack {
  bool operator==(const Stack&) const = default;
};
struct Transpose {
  bool operator==(const Transpose&) const = default;
};
struct Slice {
  int64_t axis, begin, end;
  bool operator==(const Slice&) const = default;
};
struct Reshape {
  std::vector<int64_t> shape;
  bool operator==(const Reshape&) const = default;
};
struct Add {
  double number;
  bool operator==(const Add&) const = default;
};
struct Scale {
  double number;
  bool operator==(const Scale&) const = default;
};
struct Mul {
  bool operator==(const Mul&) const = default;
};
struct MulRows {
  bool operator==(const MulRows&) const = default;
};
struct Pack {
  std::string layout;
  bool operator==(const Pack&) const = default;
};

using Kind = std::variant<Tensor, Constant, RopeFrequencies, Cast, Concat, Stack, Transpose, Slice, Reshape, Add, Scale,
                          Mul, MulRows, Pack>;

// Builders. Each throws an Error when the tree becomes too deep or large, or when an argument can never fit.
Recipe tensor(std::string name);
Recipe constant(std::vector<float> values);
Recipe rope_frequencies(RopeFrequencies parameters);
Recipe cast(Recipe e, DType dtype);
Recipe concat(std::vector<Recipe> parts);
Recipe stack(std::vector<Recipe> parts);
Recipe transpose(Recipe e);
Recipe slice(Recipe e, int64_t axis, int64_t begin, int64_t end);
Recipe reshape(Recipe e, std::vector<int64_t> shape);
Recipe add(Recipe e, double number);
Recipe scale(Recipe e, double number);
Recipe mul(Recipe e, Recipe factors);
Recipe mul_rows(Recipe e, Recipe factors);
Recipe pack(Recipe e, std::string layout);

// The vector that a rope_frequencies node stands for. The formulas are those of the transformers library, which
// computes in f32; so does this.
std::vector<float> inverse_frequencies(const RopeFrequencies& parameters);

// The type of a node over inputs of these types; `leaf` is the type of the tensor if it is one. All types that come out
// have at least one element per dimension and less than 2^56 elements.
TensorType infer_node(const RecipeNode& node, const std::vector<TensorType>& inputs, const TensorType* leaf);

}  // namespace recipe

struct RecipeNode {
  recipe::Kind kind;
  std::vector<Recipe> inputs;
  int depth = 1;  // both are set by Recipe's constructor
  int64_t nodes = 1;
};

// parse_recipe(print(r)) == r. The Error of a mistake says line and column.
Recipe parse_recipe(std::string_view text);
std::string print(const Recipe& recipe);

// The names of the tensors it reads, each once, in the order of their first appearance.
std::vector<std::string> leaves(const Recipe& recipe);

// The type of the result; the layout of a pack is its `layout`. Throws an Error where types do not fit.
TensorType infer(const Recipe& recipe, const std::function<TensorType(std::string_view)>& leaf_type);

// What the recipe means, row major whatever it is packed to. Without rounding, arithmetic results and casts to float
// dtypes keep the f64 values and are f64 tensors.
enum class Rounding { kAsStored, kNone };
HostTensor evaluate(const Recipe& recipe, const std::function<HostTensor(std::string_view)>& leaf,
                    Rounding rounding = Rounding::kAsStored);

}  // namespace ingot
