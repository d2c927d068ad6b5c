#include "tactics/cuda/pointwise.h"

#include "ops/indexing.h"
#include "ops/pointwise.h"
#include "ops/pointwise_chain.h"
#include "tactics/cuda/op_source.h"

namespace ingot {

namespace {

// What pointwise.cuh is told; a to d are inputs of the problem.
struct Form {
  std::string result = "a";
  int a = 0, b = -1, c = -1, d = -1, picked = -1;
  int64_t width = 0;
  int64_t a_stride = 0, a_begin = 0;
  int64_t b_stride = -1, b_begin = 0;
  int64_t c_stride = -1, d_stride = -1;
};

// Rows are all dimensions but the last; a vector is rows of one element, because its size may differ between runs.
int64_t row_size(const TensorType& type) { return type.rank() < 2 ? 1 : type.shape.back().constant(); }

std::string float_literal(float value) { return define("", value).substr(1); }

Form unary(const Problem& problem, std::string result) {
  int64_t width = row_size(problem.outputs[0]);
  return {.result = std::move(result), .width = width, .a_stride = width};
}

// The stride of an input that has the rows of the first one, or is one row for all.
int64_t operand_stride(const Problem& problem, size_t input) {
  return problem.inputs[input].rank() < problem.inputs[0].rank() ? 0 : row_size(problem.outputs[0]);
}

Form binary(const Problem& problem, std::string result) {
  Form form = unary(problem, std::move(result));
  form.b = 1;
  form.b_stride = operand_stride(problem, 1);
  return form;
}

// What an op makes of the expression x, and of b. The results can stand beside any operator.
std::string applied(const Add&, const std::string& x, std::string_view b) { return format("({}+{})", x, b); }
std::string applied(const Multiply&, const std::string& x, std::string_view b) { return format("({}*{})", x, b); }
std::string applied(const Scale& op, const std::string& x) { return format("({}*{})", x, float_literal(op.factor)); }
std::string applied(const SoftCap& op, const std::string& x) {
  std::string cap = float_literal(op.cap);
  return format("({}*tanhf({}/{}))", cap, x, cap);
}
std::string call(ActivationFunction function, const std::string& x) {
  return format("act_{}::of({})", enum_name(function), x);
}
std::string applied(const Activation& op, const std::string& x) { return call(op.function, x); }
std::string applied(const Cast&, const std::string& x) { return x; }

template <class Op>
Form form_of(const Op& op, const Problem& problem) {
  if constexpr (requires { applied(op, "a", "b"); })
    return binary(problem, applied(op, "a", "b"));
  else
    return unary(problem, applied(op, "a"));
}

// `x` with what `step` makes of it, if that is an Op.
template <class Op>
bool append(const AnyOp& step, std::string& x) {
  const Op* op = step.as<Op>();
  if (op) x = applied(*op, x);
  return op != nullptr;
}

Form form_of(const PointwiseChain& op, const Problem& problem) {
  constexpr std::string_view kOperands[] = {"b", "c", "d"};
  static_assert(std::size(kOperands) + 1 == PointwiseChain::kMaxInputs);
  size_t next = 0;
  std::string x = "a";
  for (const AnyOp& step : parse_chain_steps(op.steps)) {
    if (const auto* add = step.as<Add>()) {
      x = applied(*add, x, kOperands[next++]);
    } else if (const auto* multiply = step.as<Multiply>()) {
      x = applied(*multiply, x, kOperands[next++]);
    } else {
      append<Scale>(step, x) || append<SoftCap>(step, x) || append<Activation>(step, x) || append<Cast>(step, x);
    }
  }
  Form form = unary(problem, std::move(x));
  if (next > 0) form.b = 1, form.b_stride = operand_stride(problem, 1);
  if (next > 1) form.c = 2, form.c_stride = operand_stride(problem, 2);
  if (next > 2) form.d = 3, form.d_stride = operand_stride(problem, 3);
  return form;
}

Form form_of(const GatedActivation& op, const Problem& problem) {
  std::string result = call(op.function, "a") + "*b";
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
constexpr Tiling kTiling = {256};

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
    auto dtype_of = [&](int input) { return input < 0 ? a : problem.inputs[static_cast<size_t>(input)].dtype; };
    const DType narrowest = size_of(a) < size_of(y) ? a : y;
    // The strides of c and d are the width or 0.
    const int64_t pack = pack_size(
        narrowest, {form.width, form.a_stride, form.a_begin, std::max<int64_t>(form.b_stride, 0), form.b_begin});
    std::vector<std::string> defines = {
        define("A_TYPE", device_type(a)),
        define("B_TYPE", device_type(dtype_of(form.b))),
        define("C_TYPE", device_type(dtype_of(form.c))),
        define("D_TYPE", device_type(dtype_of(form.d))),
        define("Y_TYPE", device_type(y)),
        define("WIDTH", form.width),
        define("A_STRIDE", form.a_stride),
        define("A_BEGIN", form.a_begin),
        define("B_STRIDE", form.b_stride),
        define("B_BEGIN", form.b_begin),
        define("C_STRIDE", form.c_stride),
        define("D_STRIDE", form.d_stride),
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
    launch.arguments = {buffer(form.a), buffer(form.b),      buffer(form.c),
                        buffer(form.d), buffer(form.picked), buffer(static_cast<int>(problem.inputs.size())),
                        "i32 " + rows};
    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    add_module_step(tactic, module(target, std::move(defines)), std::move(launch), every_argument(problem));
    return tactic;
  }

 protected:
  std::string refusal(const Problem& problem) const override {
    const Form form = form_of(*problem.op.as<Op>(), problem);
    std::string reason = unless_device_floats(problem, {static_cast<size_t>(form.a), problem.inputs.size()});
    for (int operand : {form.b, form.c, form.d})
      if (reason.empty() && operand >= 0) reason = unless_device_floats(problem, {static_cast<size_t>(operand)});
    return reason;
  }
  std::vector<std::string> configs(const Problem&, const Target&) const override { return {print_fields(kTiling)}; }
};

}  // namespace

CompiledTactic gate_products(ActivationFunction function, const TensorType& products, const TensorType& y,
                             const Target& target) {
  const Problem problem{GatedActivation{function}, {products}, {y}};
  return cuda_pointwise_source<GatedActivation>()->compile(problem, print_fields(kTiling), target);
}

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
template const TacticSource* cuda_pointwise_source<PointwiseChain>();
template const TacticSource* cuda_pointwise_source<Embedding>();
template const TacticSource* cuda_pointwise_source<GatherRows>();
template const TacticSource* cuda_pointwise_source<Slice>();

}  // namespace ingot
