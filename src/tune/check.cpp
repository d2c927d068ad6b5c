#include "tune/check.h"

#include <cmath>

#include "tune/check_bounds.h"
#include "tune/check_cut.h"

namespace ingot {

namespace {

// The input whose dtype decides what operands may be rounded to.
struct OperandRule {
  std::string_view op;
  size_t input;
};
constexpr OperandRule kOperands[] = {{"matmul", 1}, {"attention", 1}, {"expert_mlp", 3}};

// "output 0 [3, 17]: 0.25 where 0.5 ± 1e-06 is needed"
std::string describe(const TensorType& type, size_t output, int64_t index, double found, double value, double bound) {
  std::vector<int64_t> sizes = type.sizes();
  std::string place;
  for (size_t axis = sizes.size(); axis-- > 0; index /= sizes[axis])
    place = std::to_string(index % sizes[axis]) + (place.empty() ? "" : ", ") + place;
  return format("output {} [{}]: {:.9g} where {:.9g} ± {:.3g} is needed", output, place, found, value, bound);
}

}  // namespace

DType compute_dtype(const Problem& problem) {
  for (const OperandRule& rule : kOperands)
    if (rule.op == problem.op.name()) return problem.inputs[rule.input].dtype;
  return DType::kF32;
}

Expected::Expected(const Problem& problem, const Inputs& inputs, CheckMode mode, DType compute)
    : types_(problem.outputs), elements_(problem.outputs.size()) {
  Cut cut = mode == CheckMode::kFull ? whole(problem, inputs) : sampled(problem, inputs);
  unchecked_ = cut.unchecked;
  if (!unchecked_.empty()) return;
  Bounded bounded = evaluate_bounded(cut.problem, cut.inputs, compute);
  for (size_t o = 0; o < elements_.size(); ++o) {
    const std::vector<double>& values = bounded.values[o].values;
    for (size_t i = 0; i < values.size(); ++i)
      elements_[o].push_back({cut.indices[o][i], values[i], bounded.bounds[o][i]});
  }
}

CheckResult Expected::compare(std::span<const void* const> outputs) const {
  CheckResult result{true, 0, unchecked_};
  for (size_t o = 0; o < elements_.size(); ++o) {
    for (const Element& element : elements_[o]) {
      double found = load_element(types_[o].dtype, outputs[o], element.index);
      if (found == element.value || found == rounded(types_[o].dtype, element.value)) continue;
      double error = std::abs(found - element.value) / element.bound;
      if (error <= result.worst) continue;
      bool wrong = !(error <= 1);  // also for NaN
      result.worst = std::isnan(error) ? INFINITY : error;
      if (!wrong) continue;
      result.ok = false;
      result.where = describe(types_[o], o, element.index, found, element.value, element.bound);
    }
  }
  return result;
}

CheckResult check_outputs(const Problem& problem, const Inputs& inputs, std::span<const void* const> outputs,
                          CheckMode mode) {
  return Expected(problem, inputs, mode, compute_dtype(problem)).compare(outputs);
}

}  // namespace ingot
