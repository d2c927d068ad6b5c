#include "tactics/cuda/norm.h"

#include "ops/norm.h"
#include "tactics/cuda/op_source.h"

namespace ingot {

namespace {

// The inputs of a norm by what they are: a, b if it adds, gamma, beta if it centers.
struct Form {
  bool adds = false, centers = false;
  float epsilon = 0;
  int gamma() const { return adds ? 2 : 1; }
  int beta() const { return centers ? gamma() + 1 : -1; }
  size_t inputs() const { return static_cast<size_t>(gamma()) + (centers ? 2 : 1); }
};
Form form_of(const RmsNorm& op) { return {false, false, op.epsilon}; }
Form form_of(const LayerNorm& op) { return {false, true, op.epsilon}; }
Form form_of(const AddRmsNorm& op) { return {true, false, op.epsilon}; }
Form form_of(const AddLayerNorm& op) { return {true, true, op.epsilon}; }

struct Tiling {
  int64_t threads = 0, groups = 0;
  static constexpr auto fields() {
    return std::tuple{field("threads", &Tiling::threads), field("groups", &Tiling::groups)};
  }
};

constexpr int64_t kMostThreads = 1024, kSmallBlock = 128;

// Threads enough for `packs` packs, `each` in a thread.
Tiling tiling_for(int64_t packs, int64_t each) {
  int64_t threads = (packs + each - 1) / each;
  if (threads <= 32) return {power_of_two_from(threads), kSmallBlock / power_of_two_from(threads)};
  return {std::min((threads + 31) / 32 * 32, kMostThreads), 1};
}

template <class Op>
class NormSource final : public CudaOpSource {
 public:
  NormSource() : CudaOpSource(Op::name, "norm.cuh") {}

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    const Form form = form_of(*problem.op.as<Op>());
    Lexer lexer(config);
    const auto tiling = parse_fields<Tiling>(lexer);
    const TensorType& a = problem.inputs[0];
    const int64_t size = group_size(problem, form), groups_per_row = a.shape[1].constant() / size;
    std::vector<std::string> defines = {
        define("A_TYPE", device_type(a.dtype)),
        define("B_TYPE", device_type(form.adds ? problem.inputs[1].dtype : a.dtype)),
        define("SIZE", size),
        define("EPSILON", form.epsilon),
        define("ADD", int64_t{form.adds}),
        define("CENTER", int64_t{form.centers}),
        define("PACK", pack_size(a.dtype, {size})),
        define("THREADS", tiling.threads),
        define("GROUPS", tiling.groups),
    };
    const std::string groups = format("size(0, 0) * {}", groups_per_row);
    const int first_output = static_cast<int>(form.inputs());
    ModuleLaunch launch;
    launch.function = "normalize";
    launch.grid = {format("ceil({}, {})", groups, tiling.groups)};
    launch.block = {tiling.threads * tiling.groups};
    launch.dependent = true;
    launch.arguments = {buffer(0),
                        buffer(form.adds ? 1 : -1),
                        buffer(form.gamma()),
                        buffer(form.beta()),
                        buffer(form.adds ? first_output : -1),
                        buffer(form.adds ? first_output + 1 : first_output),
                        "i64 " + groups};
    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    add_module_step(tactic, module(target, std::move(defines)), std::move(launch), every_argument(problem));
    return tactic;
  }

 protected:
  std::string refusal(const Problem& problem) const override {
    const Form form = form_of(*problem.op.as<Op>());
    std::string reason = unless_device_floats(problem, {0});
    if (reason.empty() && form.adds) reason = unless_device_floats(problem, {1});
    for (size_t i = static_cast<size_t>(form.gamma()); i < form.inputs() && reason.empty(); ++i)
      if (problem.inputs[i].dtype != DType::kF32)
        reason = format("found {} where f32 is needed", print(problem.inputs[i]));
    return reason;
  }

  std::vector<std::string> configs(const Problem& problem, const Target&) const override {
    const Form form = form_of(*problem.op.as<Op>());
    const int64_t size = group_size(problem, form), packs = size / pack_size(problem.inputs[0].dtype, {size});
    std::vector<std::string> configs;
    for (int64_t each : {2, 1}) {
      std::string config = print_fields(tiling_for(packs, each));
      if (std::find(configs.begin(), configs.end(), config) == configs.end()) configs.push_back(config);
    }
    return configs;
  }

 private:
  static int64_t group_size(const Problem& problem, const Form& form) {
    return problem.inputs[static_cast<size_t>(form.gamma())].shape[0].constant();
  }
};

}  // namespace

template <class Op>
const TacticSource* cuda_norm_source() {
  static const NormSource<Op> source;
  return &source;
}
template const TacticSource* cuda_norm_source<RmsNorm>();
template const TacticSource* cuda_norm_source<LayerNorm>();
template const TacticSource* cuda_norm_source<AddRmsNorm>();
template const TacticSource* cuda_norm_source<AddLayerNorm>();

}  // namespace ingot
