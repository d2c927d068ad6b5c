#include "tactics/cuda/rope.h"

#include "ops/attention.h"
#include "ops/rope.h"
#include "tactics/cuda/op_source.h"

namespace ingot {

namespace {

// What rope.cuh is told. Buffers are inputs and outputs of the problem, -1 for none.
struct Form {
  int x = 0, angles = -1, slots = -1, q_gamma = -1, k_gamma = -1, y = -1, k_cache = -1, v_cache = -1;
  int64_t q_heads = 0, k_heads = 0, v_heads = 0, head_size = 0, rotated = 0, page_size = 1;
  bool interleaved = false, norm = false;
  float epsilon = 0;
};

Form form_of(const Rope& op, const Problem& problem) {
  return {.x = 0,
          .angles = 1,
          .y = 2,
          .q_heads = problem.inputs[0].shape[1].constant() / op.head_size,
          .head_size = op.head_size,
          .rotated = problem.inputs[1].shape[1].constant(),
          .interleaved = op.interleaved};
}

// Values are heads that are neither normed nor rotated.
Form form_of(const KvWrite&, const Problem& problem) {
  const Shape& state = problem.inputs[0].shape;
  return {.x = 1,
          .slots = 2,
          .v_cache = 0,
          .v_heads = state[1].constant(),
          .head_size = state[3].constant(),
          .page_size = state[2].constant()};
}

Form form_of(const RopeKvWrite& op, const Problem& problem) {
  const Shape& state = problem.inputs[2].shape;
  return {.x = 0,
          .angles = 1,
          .slots = 4,
          .q_gamma = op.norm ? 5 : -1,
          .k_gamma = op.norm ? 6 : -1,
          .y = op.norm ? 7 : 5,
          .k_cache = 2,
          .v_cache = 3,
          .q_heads = op.heads,
          .k_heads = state[1].constant(),
          .v_heads = state[1].constant(),
          .head_size = state[3].constant(),
          .rotated = problem.inputs[1].shape[1].constant(),
          .page_size = state[2].constant(),
          .interleaved = op.interleaved,
          .norm = op.norm,
          .epsilon = op.epsilon};
}

struct Tiling {
  int64_t block = 0;
  static constexpr auto fields() { return std::tuple{field("block", &Tiling::block)}; }
};

template <class Op>
class RopeSource final : public CudaOpSource {
 public:
  RopeSource() : CudaOpSource(Op::name, "rope.cuh") {}

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    const Form form = form_of(*problem.op.as<Op>(), problem);
    Lexer lexer(config);
    const auto tiling = parse_fields<Tiling>(lexer);
    const TensorType& x = problem.inputs[static_cast<size_t>(form.x)];
    const auto type_of = [&](int index) {
      return device_type(index < 0 ? x.dtype : problem.inputs[static_cast<size_t>(index)].dtype);
    };
    const int64_t rest = form.head_size - form.rotated, pack = pack_size(x.dtype, {form.rotated / 2, rest});
    const int64_t units = form.rotated / 2 / pack + (rest / pack + 1) / 2;
    const int64_t lanes = std::min<int64_t>(power_of_two_from(units), 32);
    std::vector<std::string> defines = {
        define("X_TYPE", device_type(x.dtype)),
        define("K_TYPE", type_of(form.k_cache)),
        define("V_TYPE", type_of(form.v_cache)),
        define("Q_HEADS", form.q_heads),
        define("K_HEADS", form.k_heads),
        define("V_HEADS", form.v_heads),
        define("HEAD_SIZE", form.head_size),
        define("ROTATED", form.rotated),
        define("PAGE_SIZE", form.page_size),
        define("INTERLEAVED", int64_t{form.interleaved}),
        define("NORM", int64_t{form.norm}),
        define("EPSILON", form.epsilon),
        define("PACK", pack),
        define("LANES", lanes),
        define("BLOCK", tiling.block),
    };
    const std::string tokens = format("size({}, 0)", form.x);
    const int64_t lanes_per_token = (form.q_heads + form.k_heads + form.v_heads) * lanes;
    ModuleLaunch launch;
    launch.function = "rope";
    launch.grid = {format("ceil({} * {}, {})", tokens, lanes_per_token, tiling.block)};
    launch.block = {tiling.block};
    launch.dependent = true;
    for (int index : {form.x, form.angles, form.slots, form.q_gamma, form.k_gamma, form.y, form.k_cache, form.v_cache})
      launch.arguments.push_back(buffer(index));
    launch.arguments.push_back("i32 " + tokens);
    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    add_module_step(tactic, module(target, std::move(defines)), std::move(launch), every_argument(problem));
    return tactic;
  }

 protected:
  std::string refusal(const Problem& problem) const override {
    const Form form = form_of(*problem.op.as<Op>(), problem);
    for (int index : {form.x, form.k_cache, form.v_cache}) {
      std::string reason = index < 0 ? "" : unless_device_floats(problem, {static_cast<size_t>(index)});
      if (!reason.empty()) return reason;
    }
    for (int index : {form.angles, form.q_gamma, form.k_gamma})
      if (index >= 0 && problem.inputs[static_cast<size_t>(index)].dtype != DType::kF32)
        return format("found {} where f32 is needed", print(problem.inputs[static_cast<size_t>(index)]));
    return "";
  }
  std::vector<std::string> configs(const Problem&, const Target&) const override { return {print_fields(Tiling{128})}; }
};

class RopeAnglesSource final : public CudaOpSource {
 public:
  RopeAnglesSource() : CudaOpSource(RopeAngles::name, "rope_angles.cuh") {}

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    Lexer lexer(config);
    const auto tiling = parse_fields<Tiling>(lexer);
    const int64_t half = problem.inputs[1].shape[0].constant();
    std::vector<std::string> defines = {define("HALF", half),
                                        define("FACTOR", problem.op.as<RopeAngles>()->attention_factor),
                                        define("BLOCK", tiling.block)};
    ModuleLaunch launch;
    launch.function = "rope_angles";
    launch.grid = {format("ceil(size(0, 0) * {}, {})", half, tiling.block)};
    launch.block = {tiling.block};
    launch.dependent = true;
    launch.arguments = {buffer(0), buffer(1), buffer(2), "i32 size(0, 0)"};
    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    add_module_step(tactic, module(target, std::move(defines)), std::move(launch), every_argument(problem));
    return tactic;
  }

 protected:
  std::string refusal(const Problem& problem) const override {
    return problem.inputs[1].dtype == DType::kF32 ? ""
                                                  : format("found {} where f32 is needed", print(problem.inputs[1]));
  }
  std::vector<std::string> configs(const Problem&, const Target&) const override { return {print_fields(Tiling{128})}; }
};

}  // namespace

template <class Op>
const TacticSource* cuda_rope_source() {
  static const RopeSource<Op> source;
  return &source;
}
template const TacticSource* cuda_rope_source<Rope>();
template const TacticSource* cuda_rope_source<KvWrite>();
template const TacticSource* cuda_rope_source<RopeKvWrite>();

const TacticSource* cuda_rope_angles_source() {
  static const RopeAnglesSource source;
  return &source;
}

}  // namespace ingot
