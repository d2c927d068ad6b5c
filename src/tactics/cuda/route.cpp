#include "tactics/cuda/route.h"

#include "ops/experts.h"
#include "tactics/cuda/op_source.h"

namespace ingot {

namespace {

struct Tiling {
  int64_t block = 0;
  static constexpr auto fields() { return std::tuple{field("block", &Tiling::block)}; }
};

class RouteSource final : public CudaOpSource {
 public:
  RouteSource() : CudaOpSource(Route::name, "route.cuh") {}

  CompiledTactic compile(const Problem& problem, std::string_view config, const Target& target) const override {
    const Route& op = *problem.op.as<Route>();
    Lexer lexer(config);
    const auto tiling = parse_fields<Tiling>(lexer);
    std::vector<std::string> defines = {define("X_TYPE", device_type(problem.inputs[0].dtype)),
                                        define("EXPERTS", problem.inputs[0].shape[1].constant()),
                                        define("TOP_K", op.top_k), define("NORMALIZE", int64_t{op.normalize}),
                                        define("BLOCK", tiling.block)};
    ModuleLaunch launch;
    launch.function = "route";
    launch.grid = {format("ceil(size(0, 0), {})", tiling.block / 32)};
    launch.block = {tiling.block};
    launch.dependent = true;
    launch.arguments = {buffer(0), buffer(1), buffer(2), "i32 size(0, 0)"};
    CompiledTactic tactic;
    tactic.input_layouts.resize(problem.inputs.size());
    add_module_step(tactic, module(target, std::move(defines)), std::move(launch), every_argument(problem));
    return tactic;
  }

 protected:
  std::string refusal(const Problem& problem) const override { return unless_device_floats(problem, {0}); }
  std::vector<std::string> configs(const Problem&, const Target&) const override { return {print_fields(Tiling{128})}; }
};

}  // namespace

const TacticSource* cuda_route_source() {
  static const RouteSource source;
  return &source;
}

}  // namespace ingot
