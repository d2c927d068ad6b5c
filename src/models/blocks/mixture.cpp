#include "models/blocks/mixture.h"

#include "ops/experts.h"

namespace ingot {

namespace {

struct ExpertRecipes {
  Recipe gate_up, down;
};

ExpertRecipes fused_experts(const ModelWriter& m, const std::string& name, const MixtureSettings& s, int64_t hidden) {
  return {m.tensor(name + ".gate_up_proj", {s.experts, 2 * s.intermediate, hidden}),
          m.tensor(name + ".down_proj", {s.experts, hidden, s.intermediate})};
}

ExpertRecipes stacked_experts(const ModelWriter& m, const std::string& name, const MixtureSettings& s, int64_t hidden,
                              ExpertNames names) {
  std::vector<Recipe> gate_up, down;
  for (int64_t i = 0; i < s.experts; ++i) {
    auto part = [&](std::string_view projection, int64_t rows, int64_t columns) {
      return m.tensor(format("{}.{}.{}.weight", name, i, projection), {rows, columns});
    };
    Recipe gate = part(names.gate, s.intermediate, hidden), up = part(names.up, s.intermediate, hidden);
    gate_up.push_back(recipe::concat({gate, up}));
    down.push_back(part(names.down, hidden, s.intermediate));
  }
  return {recipe::stack(std::move(gate_up)), recipe::stack(std::move(down))};
}

}  // namespace

Value mixture(ModelWriter& m, Value x, const std::string& name, const MixtureSettings& settings, ExpertNames names) {
  const std::string experts = name + ".experts";
  int64_t hidden = m.network.type(x).shape.back().constant();
  Value scores = m.linear(x, name + ".gate", settings.experts);
  Values chosen = m.network.add(Route{settings.top_k, settings.normalize}, {scores}, name + ".route");
  ExpertRecipes recipes = m.has_tensor(experts + ".gate_up_proj")
                              ? fused_experts(m, experts, settings, hidden)
                              : stacked_experts(m, experts, settings, hidden, names);
  Value gate_up = m.matrix(experts + ".gate_up_proj", recipes.gate_up);
  Value down = m.matrix(experts + ".down_proj", recipes.down);
  return m.add(ExpertMlp{settings.function}, {x, chosen[0], chosen[1], gate_up, down}, experts);
}

}  // namespace ingot
