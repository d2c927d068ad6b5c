#include "tensor/recipe.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/fields.h"
#include "base/format.h"

namespace ingot {

Recipe::Recipe(RecipeNode node) {
  node.depth = 1;
  node.nodes = 1;
  for (const Recipe& input : node.inputs) {
    if (!input) fail(ErrorCode::kRuntime, "an empty recipe cannot be part of another");
    if (std::holds_alternative<recipe::Pack>(input.node().kind))
      fail(ErrorCode::kRuntime, "pack must be the outermost function of a recipe");
    node.depth = std::max(node.depth, input.node().depth + 1);
    node.nodes += input.node().nodes;
  }
  if (node.depth > recipe::kMaxDepth)
    fail(ErrorCode::kRuntime, "a recipe is nested deeper than {} functions", recipe::kMaxDepth);
  if (node.nodes > recipe::kMaxNodes)
    fail(ErrorCode::kRuntime, "a recipe has more than {} functions and tensors", recipe::kMaxNodes);
  node_ = std::make_shared<const RecipeNode>(std::move(node));
}

bool Recipe::operator==(const Recipe& other) const {
  if (node_ == other.node_) return true;
  return node_ && other.node_ && node_->nodes == other.node_->nodes && node_->kind == other.node_->kind &&
         node_->inputs == other.node_->inputs;
}

// --- building -----------------------------------------------------------------------------------------------------

namespace recipe {

namespace {

constexpr std::array<std::string_view, 4> kRopeTypes = {"default", "linear", "llama3", "longrope"};

Recipe make(Kind kind, std::vector<Recipe> inputs) { return Recipe(RecipeNode{std::move(kind), std::move(inputs)}); }

void check_finite(double number) {
  if (!std::isfinite(number)) fail(ErrorCode::kRuntime, "a number of a recipe is {}, it must be finite", number);
}

void check_positive(std::string_view what, double number) {
  if (!(number > 0) || !std::isfinite(number))
    fail(ErrorCode::kRuntime, "{} of rope_frequencies is {}, it must be positive", what, number);
}

}  // namespace

std::span<const std::string_view> enum_names(RopeType) { return kRopeTypes; }

Recipe tensor(std::string name) {
  if (name.empty()) fail(ErrorCode::kRuntime, "a tensor of a recipe has an empty name");
  return make(Tensor{std::move(name)}, {});
}

Recipe constant(std::vector<float> values) {
  if (values.empty()) fail(ErrorCode::kRuntime, "a constant of a recipe has no values");
  for (float value : values) check_finite(value);
  return make(Constant{std::move(values)}, {});
}

Recipe rope_frequencies(RopeFrequencies parameters) {
  const RopeFrequencies& p = parameters;
  check_positive("theta", p.theta);
  if (p.rotary_dim < 2 || p.rotary_dim > 65536 || p.rotary_dim % 2 != 0)
    fail(ErrorCode::kRuntime, "rotary_dim of rope_frequencies is {}, it must be even, at least 2 and at most 65536",
         p.rotary_dim);
  check_positive("factor", p.factor);
  check_positive("low_freq_factor", p.low_freq_factor);
  check_positive("high_freq_factor", p.high_freq_factor);
  check_positive("original_max_position_embeddings", static_cast<double>(p.original_max_position_embeddings));
  if (p.type == RopeType::kLlama3 && !(p.low_freq_factor < p.high_freq_factor))
    fail(ErrorCode::kRuntime, "low_freq_factor of rope_frequencies is {}, it must be below high_freq_factor, {}",
         p.low_freq_factor, p.high_freq_factor);
  size_t needed = p.type == RopeType::kLongrope ? static_cast<size_t>(p.rotary_dim / 2) : 0;
  if (p.factors.size() != needed)
    fail(ErrorCode::kRuntime, "rope_frequencies has {} factors, its type and rotary_dim need {}", p.factors.size(),
         needed);
  for (float factor : p.factors) check_positive("a factor", factor);
  return make(std::move(parameters), {});
}

Recipe cast(Recipe e, DType dtype) {
  if (!is_float(dtype)) fail(ErrorCode::kRuntime, "cast makes f64, f32, f16 or bf16, not {}", enum_name(dtype));
  return make(Cast{dtype}, {std::move(e)});
}

Recipe concat(std::vector<Recipe> parts) {
  if (parts.empty()) fail(ErrorCode::kRuntime, "concat needs at least one part");
  return make(Concat{}, std::move(parts));
}

Recipe stack(std::vector<Recipe> parts) {
  if (parts.empty()) fail(ErrorCode::kRuntime, "stack needs at least one part");
  return make(Stack{}, std::move(parts));
}

Recipe transpose(Recipe e) { return make(Transpose{}, {std::move(e)}); }

Recipe slice(Recipe e, int64_t axis, int64_t begin, int64_t end) {
  if (axis < 0 || begin < 0 || end <= begin)
    fail(ErrorCode::kRuntime, "slice of the elements {} to {} of axis {} is impossible", begin, end, axis);
  return make(Slice{axis, begin, end}, {std::move(e)});
}

Recipe reshape(Recipe e, std::vector<int64_t> shape) {
  for (int64_t size : shape)
    if (size < 1) fail(ErrorCode::kRuntime, "reshape to a dimension of {}, it must be at least 1", size);
  return make(Reshape{std::move(shape)}, {std::move(e)});
}

Recipe add(Recipe e, double number) {
  check_finite(number);
  return make(Add{number}, {std::move(e)});
}

Recipe scale(Recipe e, double number) {
  check_finite(number);
  return make(Scale{number}, {std::move(e)});
}

Recipe mul(Recipe e, Recipe factors) { return make(Mul{}, {std::move(e), std::move(factors)}); }
Recipe mul_rows(Recipe e, Recipe factors) { return make(MulRows{}, {std::move(e), std::move(factors)}); }

Recipe pack(Recipe e, std::string layout) {
  if (layout.empty()) fail(ErrorCode::kRuntime, "pack needs the name of a layout");
  return make(Pack{std::move(layout)}, {std::move(e)});
}

// --- printing -----------------------------------------------------------------------------------------------------

namespace {

void print_node(const Recipe& recipe, std::string& text);

// Appends "name(input, input" without the closing parenthesis.
void print_call(std::string_view name, const RecipeNode& node, std::string& text) {
  text += name;
  text += "(";
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (i) text += ", ";
    print_node(node.inputs[i], text);
  }
}

std::string print_parameters(const RopeFrequencies& p) {
  std::string text = print_float(p.theta) + ", " + std::to_string(p.rotary_dim) + ", " + std::string(enum_name(p.type));
  if (p.type == RopeType::kLinear || p.type == RopeType::kLlama3) text += ", factor = " + print_float(p.factor);
  if (p.type == RopeType::kLlama3) {
    text += ", low_freq_factor = " + print_float(p.low_freq_factor);
    text += ", high_freq_factor = " + print_float(p.high_freq_factor);
    text += ", original_max_position_embeddings = " + std::to_string(p.original_max_position_embeddings);
  }
  if (p.type == RopeType::kLongrope) text += ", factors = " + print_value(p.factors);
  return text;
}

struct Printer {
  const RecipeNode& node;
  std::string& text;

  void call(std::string_view name, const std::string& arguments) const {
    print_call(name, node, text);
    text += (node.inputs.empty() || arguments.empty() ? "" : ", ") + arguments + ")";
  }
  void operator()(const Tensor& tensor) const { text += print_string_value(tensor.name); }
  void operator()(const Constant& constant) const { call("constant", print_value(constant.values)); }
  void operator()(const RopeFrequencies& parameters) const { call("rope_frequencies", print_parameters(parameters)); }
  void operator()(const Cast& cast) const { call("cast", std::string(enum_name(cast.dtype))); }
  void operator()(const Concat&) const { call("concat", ""); }
  void operator()(const Stack&) const { call("stack", ""); }
  void operator()(const Transpose&) const { call("transpose", ""); }
  void operator()(const Slice& s) const { call("slice", format("{}, {}, {}", s.axis, s.begin, s.end)); }
  void operator()(const Reshape& reshape) const {
    std::vector<std::string> sizes;
    for (int64_t size : reshape.shape) sizes.push_back(std::to_string(size));
    call("reshape", join(sizes));
  }
  void operator()(const Add& add) const { call("add", print_float(add.number)); }
  void operator()(const Scale& scale) const { call("scale", print_float(scale.number)); }
  void operator()(const Mul&) const { call("mul", ""); }
  void operator()(const MulRows&) const { call("mul_rows", ""); }
  void operator()(const Pack& pack) const { call("pack", print_string_value(pack.layout)); }
};

void print_node(const Recipe& recipe, std::string& text) {
  std::visit(Printer{recipe.node(), text}, recipe.node().kind);
}

}  // namespace
}  // namespace recipe

std::string print(const Recipe& recipe) {
  std::string text;
  if (recipe) recipe::print_node(recipe, text);
  return text;
}

// --- walking ------------------------------------------------------------------------------------------------------

namespace {
void collect_leaves(const Recipe& recipe, std::vector<std::string>& names) {
  if (const auto* tensor = std::get_if<recipe::Tensor>(&recipe.node().kind))
    if (std::find(names.begin(), names.end(), tensor->name) == names.end()) names.push_back(tensor->name);
  for (const Recipe& input : recipe.node().inputs) collect_leaves(input, names);
}
}  // namespace

std::vector<std::string> leaves(const Recipe& recipe) {
  std::vector<std::string> names;
  collect_leaves(recipe, names);
  return names;
}

}  // namespace ingot
