// The choice of tokens by as many blocks as any GPU would use, with clusters and without, on the GPU that is here.
#include <gtest/gtest.h>

#include <cstring>

#include "device/cuda/device.h"
#include "tune/check.h"
#include "tune/gpu_runner.h"

namespace ingot {
namespace {

const TacticSource& source_called(std::string_view name) {
  for (const TacticSource* source : tactic_list())
    if (source->name() == name) return *source;
  throw std::logic_error("no such source");
}

CheckResult run_on_gpu(const Problem& problem, const CompiledTactic& tactic) {
  Inputs inputs = make_inputs(problem, 3);
  Expected expected(problem, inputs, CheckMode::kFull, DType::kF32);
  GpuRunner runner(problem, tactic);
  std::vector<int32_t> ids(static_cast<size_t>(problem.outputs[0].elements()), -7);
  for (size_t i = 0; i < problem.inputs.size(); ++i)
    runner.bind(static_cast<int>(i), inputs.data(i), static_cast<size_t>(problem.inputs[i].bytes()));
  runner.bind(5, reinterpret_cast<std::byte*>(ids.data()), ids.size() * 4);
  runner.bind(6, inputs.data(4), static_cast<size_t>(problem.inputs[4].bytes()));
  runner.run();
  const void* outputs[] = {ids.data(), inputs.data(4)};
  return expected.compare(outputs);
}

// Small enough for a sanitizer.
TEST(Sample, EverySharingOfARowAgrees) {
  if (std::string missing = cuda::Device::missing(); !missing.empty()) GTEST_SKIP() << missing;
  Problem problem = parse_problem("sample f32[12, 3000] f32[12, 6] i32[12, 7] i32[300, 2] i32[16]");
  Target target = parse_target("cuda", 1);
  for (const char* shares : {"{per_thread = 3}", "{blocks = 2, per_thread = 2}", "{blocks = 16}",
                             "{blocks = 2, per_thread = 2, clusters = true}", "{blocks = 16, clusters = true}"}) {
    if (std::string_view(shares).ends_with("true}") && std::stoi(target.cuda_arch.substr(3)) < 90) continue;
    CheckResult result = run_on_gpu(problem, source_called("cuda.sample").compile(problem, shares, target));
    EXPECT_TRUE(result.ok) << shares << ": " << result.where;
  }
}

// At sizes at which blocks wait for each other in earnest.
TEST(Sample, TeamsOfBlocksAgreeWithoutClusters) {
  if (std::string missing = cuda::Device::missing(); !missing.empty()) GTEST_SKIP() << missing;
  for (const char* text : {"sample f32[40, 9000] f32[40, 6] i32[40, 7] i32[3000, 2] i32[64]",
                           "sample f32[12, 128256] f32[12, 6] i32[12, 7] i32[3000, 2] i32[16]"}) {
    Problem problem = parse_problem(text);
    std::string blocks =
        problem.inputs[0].shape[1] == Dim(9000) ? "blocks = 2, per_thread = 5" : "blocks = 16, per_thread = 8";
    CompiledTactic tactic =
        source_called("cuda.sample").compile(problem, "{" + blocks + ", clusters = false}", parse_target("cuda", 1));
    EXPECT_EQ(tactic.steps.size(), 3u);
    for (int repeat = 0; repeat < 3; ++repeat) {
      CheckResult result = run_on_gpu(problem, tactic);
      EXPECT_TRUE(result.ok) << text << ": " << result.where;
    }
  }
}

// A check whose rows all say nothing would be none.
TEST(Sample, MostRowsHaveOneRightToken) {
  Problem problem = parse_problem("sample f32[40, 9000] f32[40, 6] i32[40, 7] i32[3000, 2] i32[64]");
  Inputs inputs = make_inputs(problem, 3);
  Expected expected(problem, inputs, CheckMode::kFull, DType::kF32);
  HostTensors tensors;
  for (const TensorView& view : inputs.views()) tensors.emplace_back(view);
  std::vector<std::byte> ids = problem.op.evaluate(tensors)[0].bytes(), last = problem.op.evaluate(tensors)[1].bytes();
  int refused = 0;
  for (size_t row = 0; row < 40; ++row) {
    std::vector<std::byte> wrong = ids;
    int32_t other = 8999;
    std::memcpy(wrong.data() + 4 * row, &other, 4);
    const void* outputs[] = {wrong.data(), last.data()};
    refused += !expected.compare(outputs).ok;
  }
  EXPECT_GE(refused, 36);
}

}  // namespace
}  // namespace ingot
