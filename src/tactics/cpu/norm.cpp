#include "kernels/cpu/norm.h"
#include "tactics/cpu/op_source.h"

namespace ingot {

std::string refusal(const RmsNorm&, const Problem& problem) { return unless_f32(problem, {0, 1}); }
std::string refusal(const LayerNorm&, const Problem& problem) { return unless_f32(problem, {0, 1, 2}); }
std::string refusal(const AddRmsNorm&, const Problem& problem) { return unless_f32(problem, {0, 1, 2}); }
std::string refusal(const AddLayerNorm&, const Problem& problem) { return unless_f32(problem, {0, 1, 2, 3}); }

namespace {

template <class Op>
std::string norm_parameters(const Op& op, const Problem& problem) {
  return print_fields(NormParameters<Op>{op, {tiles_block(problem.outputs.back().layout)}});
}

// gamma and beta are the last inputs, the normed rows the last result.
bool can_write_normed(const Problem& problem, size_t output, std::string_view layout) {
  const std::vector<int64_t> y = problem.outputs.back().sizes();
  const int64_t size = problem.inputs.back().shape[0].constant();
  return tiles_block(layout) > 0 && output + 1 == problem.outputs.size() && size == y[1] && size <= kMostTiledNorm &&
         tiles_fit(y[0], size);
}

}  // namespace

std::string parameters_of(const RmsNorm& op, const Problem& problem) { return norm_parameters(op, problem); }
std::string parameters_of(const LayerNorm& op, const Problem& problem) { return norm_parameters(op, problem); }
std::string parameters_of(const AddRmsNorm& op, const Problem& problem) { return norm_parameters(op, problem); }
std::string parameters_of(const AddLayerNorm& op, const Problem& problem) { return norm_parameters(op, problem); }

bool can_write(const RmsNorm&, const Problem& problem, size_t output, std::string_view layout) {
  return can_write_normed(problem, output, layout);
}
bool can_write(const LayerNorm&, const Problem& problem, size_t output, std::string_view layout) {
  return can_write_normed(problem, output, layout);
}
bool can_write(const AddRmsNorm&, const Problem& problem, size_t output, std::string_view layout) {
  return can_write_normed(problem, output, layout);
}
bool can_write(const AddLayerNorm&, const Problem& problem, size_t output, std::string_view layout) {
  return can_write_normed(problem, output, layout);
}

}  // namespace ingot
