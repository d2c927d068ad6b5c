#include "passes/merged_weight.h"

#include <algorithm>

namespace ingot {

namespace {
std::vector<std::string> split(const std::string& name) {
  std::vector<std::string> parts(1);
  for (char c : name) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// a, then b, as one recipe that is no concat; empty when there is none.
Recipe joined(const Recipe& a, const Recipe& b) {
  const RecipeNode &x = a.node(), &y = b.node();
  const auto *x_slice = std::get_if<recipe::Slice>(&x.kind), *y_slice = std::get_if<recipe::Slice>(&y.kind);
  if (x_slice && y_slice) {
    bool neighbours = x_slice->axis == 0 && y_slice->axis == 0 && x_slice->end == y_slice->begin;
    if (!neighbours || !(x.inputs[0] == y.inputs[0])) return {};
    return recipe::slice(x.inputs[0], 0, x_slice->begin, y_slice->end);
  }
  const auto *x_cast = std::get_if<recipe::Cast>(&x.kind), *y_cast = std::get_if<recipe::Cast>(&y.kind);
  if (!x_cast || !y_cast || x_cast->dtype != y_cast->dtype) return {};
  Recipe inner = joined(x.inputs[0], y.inputs[0]);
  return inner ? recipe::cast(inner, x_cast->dtype) : Recipe();
}
}  // namespace

std::string merged_name(const std::vector<const Node*>& weights) {
  std::vector<std::vector<std::string>> names;
  for (const Node* weight : weights) names.push_back(split(weight->name));
  bool alike = std::all_of(names.begin(), names.end(), [&](auto& name) { return name.size() == names[0].size(); });
  if (!alike) {
    std::string text = weights[0]->name;
    for (size_t i = 1; i < weights.size(); ++i) text += "-" + weights[i]->name;
    return text;
  }
  std::vector<std::string> merged = names[0];
  for (size_t part = 0; part < merged.size(); ++part) {
    bool equal = std::all_of(names.begin(), names.end(), [&](auto& name) { return name[part] == merged[part]; });
    if (equal) continue;
    for (size_t i = 1; i < names.size(); ++i) merged[part] += "-" + names[i][part];
  }
  return join(merged, ".");
}

Recipe merged_recipe(const std::vector<const Node*>& weights) {
  std::vector<Recipe> recipes;
  for (const Node* weight : weights) {
    Recipe both = recipes.empty() ? Recipe() : joined(recipes.back(), weight->recipe);
    if (both) {
      recipes.back() = both;
    } else {
      recipes.push_back(weight->recipe);
    }
  }
  return recipes.size() == 1 ? recipes[0] : recipe::concat(std::move(recipes));
}

TensorType merged_type(const std::vector<const Node*>& weights) {
  TensorType type = weights[0]->types[0];
  int64_t rows = 0;
  for (const Node* weight : weights) rows += weight->types[0].shape[0].constant();
  type.shape[0] = Dim(rows);
  return type;
}

std::string merge_obstacle(const std::vector<const Node*>& weights) {
  for (const Node* weight : weights) {
    if (weight->kind != NodeKind::kWeight) return "a projection has no weight";
    TensorType type = weight->types[0];
    if (type.shape.empty()) return "a weight is a scalar";
    type.shape[0] = weights[0]->types[0].shape[0];
    if (type != weights[0]->types[0])
      return format("the weights are {} and {}", print(weights[0]->types[0]), print(weight->types[0]));
  }
  return "";
}

}  // namespace ingot
