// Gated products of cuBLASLt whose rows do not fit into its scratch memory at once, on the GPU that is here.
#include <gtest/gtest.h>

#include <cstring>

#include "device/cuda/device.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/kernel_parameters.h"
#include "tactics/library/cublaslt_matmul.h"
#include "tune/check.h"
#include "tune/gpu_runner.h"

namespace ingot {
namespace {

CheckResult run_on_gpu(const Problem& problem, const CompiledTactic& tactic) {
  Inputs inputs = make_inputs(problem, 5);
  Expected expected(problem, inputs, CheckMode::kFull, compute_dtype(problem));
  std::vector<std::byte> y(static_cast<size_t>(problem.outputs[0].bytes()), std::byte{0xff});
  GpuRunner runner(problem, tactic);
  for (size_t i = 0; i < problem.inputs.size(); ++i)
    runner.bind(static_cast<int>(i), inputs.data(i), static_cast<size_t>(problem.inputs[i].bytes()));
  runner.bind(static_cast<int>(problem.inputs.size()), y.data(), y.size());
  runner.run();
  const void* outputs[] = {y.data()};
  return expected.compare(outputs);
}

// The same tactic, with memory for `rows` rows.
CompiledTactic with_rows_at_once(CompiledTactic tactic, int64_t rows) {
  auto parameters = parse_kernel_parameters<CublasltMatmul>(tactic.steps[0].parameters);
  EXPECT_GT(parameters.rows_at_once, rows);
  parameters.rows_at_once = rows;
  tactic.steps[0].parameters = print_fields(parameters);
  return tactic;
}

TEST(LibraryGate, RowsTakeTurns) {
  if (const std::string missing = cuda::Device::missing(); !missing.empty()) GTEST_SKIP() << missing;
  const Target target = parse_target("cuda", 1);
  const TacticSource& source = *cublaslt_matmul_source();
  for (const char* text : {"matmul f32[200, 131] f32[74, 131] {function = silu, gated = true}",
                           "matmul f32[130, 96] f32[160, 96] f32[160] {bias = true, function = gelu, gated = true}",
                           "matmul bf16[200, 136] bf16[264, 136] {function = silu, gated = true}",
                           "matmul f16[128, 136] f16[264, 136] {function = silu, wide = true, gated = true}"}) {
    SCOPED_TRACE(text);
    const Problem problem = parse_problem(text);
    const auto offered = source.enumerate(problem, target);
    if (const auto* refused = std::get_if<Unsupported>(&offered)) GTEST_SKIP() << refused->reason;
    for (const std::string& config : std::get<0>(offered)) {
      const CheckResult result = run_on_gpu(problem, with_rows_at_once(source.compile(problem, config, target), 64));
      EXPECT_TRUE(result.ok) << config << ": " << result.where;
    }
  }
}

}  // namespace
}  // namespace ingot
