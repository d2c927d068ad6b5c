#include "tactics/cuda/pointwise.h"

#include "ops/indexing.h"
#include "ops/pointwise.h"
#include "tactics/cuda/op_source.h"

namespace ingot {

namespace {

// What pointwise.cuh is told; a and b are inputs of the problem.
struct Form {
  std::string result = "a";
  int a = 0, b = -1, picked = -1;
  int64_t width = 0;
  int64_t a_stride = 0, a_begin = 0;
  int64_t b_stride = -1, b_begin = 0;
};

// Rows are all dimensions but the last; a vector is rows of one element, because its size may differ between runs.
int64_t row_size(const TensorType& type) { return type.rank() < 2 ? 1 : type.shape.back().constant(); }

std::string float_literal(float value) { return define("", value).substr(1); }

Form unary(const Problem& problem, std::string result) {
  int64_t width = row_size(problem.outputs[0]);
  return {.result = std::move(result), .width = width, .a_stride = width};
}

Form binary(const Problem& problem, std::string result) {
  Form form = unary(problem, std::move(result));
  form.b = 1;
  form.b_stride = problem.inputs[1].rank() < problem.inputs[0].rank() ? 0 : form.width;
  return form;
}

std::string call(ActivationFunction function) { return format("act_{}::of(a)", enum_name(function)); }

Form form_of(const Add&, const Problem& problem) { return binary(problem, "a+b"); }
Form form_of(const Multiply&, const Problem& problem) { return binary(problem, "a*b"); }
Form form_of(const Scale& op, const Problem& problem) { return unary(problem, "a*" + float_literal(op.factor)); }
Form form_of(const SoftCap& op, const Problem& problem) {
  std::string cap = float_literal(op.cap);
  return unary(problem, format("{}*tanhf(a/{})", cap, cap));
}
Form form_of(const Activation& op, const Problem& problem) { return unary(problem, call(op.function)); }
Form form_of(const Cast&, const Problem& problem) { return unary(problem, "a"); }

Form form_of(const GatedActivation& op, const Problem& problem) {
  std::string result = call(op.function) + "*b";
  if (problem.inputs.size() == 2) return binary(problem, result);
  int64_t width = row_size(problem.outputs[0]);
  return {.result = result, .b = 0, .width = width, .a_stride = 2 * width, .b_stride = 2 * width, .b_begin = width};
}

Form form_of(const Embedding&, const Problem& problem) {
  int64_t width = row_size(problem.outputs[0]);
  return {.a = 1, .picked = 0, .width = width, .a_stride = width};
}

Form form_of(const GatherRows&, const Problem& problem) {
  int64_t width = row_size(problem.outputs[0]);
  return {.picked = 1, .width = width, .a_stride = width};
}

Form form_of(const Slice& op, const Problem& problem) {
  return {.width = op.end - op.begin, .a_stride = row_size(problem.inputs[0]), .a_begin = op.begin};
}

struct Tiling {
  int64_t block = 0;
  static constexpr auto fields() { return std::tuple{field("block", &Tiling::block)}; }
};

// The product of all dimensions but the last of the result.
std::string rows_of(const Problem& problem) {
  int64_t rank = problem.outputs[0].rank();
  std::string rows = format("size({}, 0)", problem.inputs.size());
  for (int64_t axis = 1; axis + 1 < rank; ++axis) rows += format(" * size({}, {})", problem.inputs.size(), axis);
  return rows;
}

template <class Op>
class PointwiseSource final : public CudaOpSource {
 public:
  PointwiseSource() : CudaOpSource(Op::name, "pointwise.cuh") {}

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    const Form form = form_of(*problem.op.as<Op>(), problem);
    Lexer lexer(config);
    const auto tiling = parse_fields<Tiling>(lexer);
    const DType a = problem.inputs[static_cast<size_t>(form.a)].dtype, y = problem.outputs[0].dtype;
    const DType b = form.b < 0 ? a : problem.inputs[static_cast<size_t>(form.b)].dtype;
    const DType narrowest = size_of(a) < size_of(y) ? a : y;
    const int64_t pack = pack_size(
        narrowest, {form.width, form.a_stride, form.a_begin, std::max<int64_t>(form.b_stride, 0), form.b_begin});
    std::vector<std::string> defines = {
        define("A_TYPE", device_type(a)),
        define("B_TYPE", device_type(b)),
        define("Y_TYPE", device_type(y)),
        define("WIDTH", form.width),
        define("A_STRIDE", form.a_stride),
        define("A_BEGIN", form.a_begin),
        define("B_STRIDE", form.b_stride),
        define("B_BEGIN", form.b_begin),
        define("PICKED", int64_t{form.picked >= 0}),
        define("RESULT", form.result),
        define("PACK", pack),
        define("BLOCK", tiling.block),
    };
    const std::string rows = rows_of(problem);
    ModuleLaunch launch;
    launch.function = "pointwise";
    launch.grid = {format("ceil({} * {}, {})", rows, form.width / pack, tiling.block)};
    launch.block = {tiling.block};
    launch.dependent = true;
    launch.arguments = {buffer(form.a), buffer(form.b), buffer(form.picked),
                        buffer(static_cast<int>(problem.inputs.size())), "i32 " + rows};
    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    add_module_step(tactic, module(target, std::move(defines)), std::move(launch), every_argument(problem));
    return tactic;
  }

 protected:
  std::string refusal(const Problem& problem) const override {
    const Form form = form_of(*problem.op.as<Op>(), problem);
    std::string reason = unless_device_floats(problem, {static_cast<size_t>(form.a), problem.inputs.size()});
    return reason.empty() && form.b >= 0 ? unless_device_floats(problem, {static_cast<size_t>(form.b)}) : reason;
  }
  std::vector<std::string> configs(const Problem&, const Target&) const override { return {print_fields(Tiling{256})}; }
};

}  // namespace

template <class Op>
const TacticSource* cuda_pointwise_source() {
  static const PointwiseSource<Op> source;
  return &source;
}
template const TacticSource* cuda_pointwise_source<Add>();
template const TacticSource* cuda_pointwise_source<Multiply>();
template const TacticSource* cuda_pointwise_source<Scale>();
template const TacticSource* cuda_pointwise_source<SoftCap>();
template const TacticSource* cuda_pointwise_source<Activation>();
template const TacticSource* cuda_pointwise_source<GatedActivation>();
template const TacticSource* cuda_pointwise_source<Cast>();
template const TacticSource* cuda_pointwise_source<Embedding>();
template const TacticSource* cuda_pointwise_source<GatherRows>();
template const TacticSource* cuda_pointwise_source<Slice>();

}  // namespace ingot
