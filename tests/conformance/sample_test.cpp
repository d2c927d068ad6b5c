// The choice of tokens by as many blocks as any GPU would use, with clusters and without, on the GPU that is here.
#include <gtest/gtest.h>

#include <cmath>
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
  std::vector<int32_t> likeliest(static_cast<size_t>(problem.outputs[2].elements()), -7);
  std::vector<float> logprobs(static_cast<size_t>(problem.outputs[3].elements()), NAN);
  runner.bind(7, reinterpret_cast<std::byte*>(likeliest.data()), likeliest.size() * 4);
  runner.bind(8, reinterpret_cast<std::byte*>(logprobs.data()), logprobs.size() * 4);
  runner.run();
  const void* outputs[] = {ids.data(), inputs.data(4), likeliest.data(), logprobs.data()};
  return expected.compare(outputs);
}

class Sharing : public testing::TestWithParam<const char*> {};

// Small enough for a sanitizer.
TEST_P(Sharing, OfARowAgrees) {
  if (std::string missing = cuda::Device::missing(); !missing.empty()) GTEST_SKIP() << missing;
  Problem problem = parse_problem("sample f32[13, 3000] f32[13, 6] i32[13, 8] i32[300, 2] i32[16]");
  Target target = parse_target("cuda", 1);
  if (std::string_view(GetParam()).ends_with("true}") && std::stoi(target.cuda_arch.substr(3)) < 90)
    GTEST_SKIP() << target.cuda_arch << " has no clusters";
  CheckResult result = run_on_gpu(problem, source_called("cuda.sample").compile(problem, GetParam(), target));
  EXPECT_TRUE(result.ok) << result.where;
}
INSTANTIATE_TEST_SUITE_P(Sample, Sharing,
                         testing::Values("{per_thread = 6}", "{threads = 1024, per_thread = 3}",
                                         "{blocks = 2, per_thread = 3}", "{blocks = 16}",
                                         "{blocks = 2, threads = 1024, per_thread = 2, clusters = true}",
                                         "{blocks = 4, per_thread = 2, clusters = true}"));

// At sizes at which blocks wait for each other in earnest, and teams take several rows.
TEST(Sample, TeamsOfBlocksAgreeWithoutClusters) {
  if (std::string missing = cuda::Device::missing(); !missing.empty()) GTEST_SKIP() << missing;
  for (const char* text : {"sample f32[40, 9000] f32[40, 6] i32[40, 8] i32[3000, 2] i32[64]",
                           "sample f32[13, 128256] f32[13, 6] i32[13, 8] i32[3000, 2] i32[16]"}) {
    Problem problem = parse_problem(text);
    std::string blocks =
        problem.inputs[0].shape[1] == Dim(9000) ? "blocks = 16, per_thread = 2" : "blocks = 16, per_thread = 16";
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
  Problem problem = parse_problem("sample f32[40, 9000] f32[40, 6] i32[40, 8] i32[3000, 2] i32[64]");
  Inputs inputs = make_inputs(problem, 3);
  Expected expected(problem, inputs, CheckMode::kFull, DType::kF32);
  HostTensors tensors;
  for (const TensorView& view : inputs.views()) tensors.emplace_back(view);
  std::vector<std::vector<std::byte>> right;
  for (const HostTensor& output : problem.op.evaluate(tensors)) right.push_back(output.bytes());
  int refused = 0;
  for (size_t row = 0; row < 40; ++row) {
    std::vector<std::byte> wrong = right[0];
    int32_t other = 8999;
    std::memcpy(wrong.data() + 4 * row, &other, 4);
    const void* outputs[] = {wrong.data(), right[1].data(), right[2].data(), right[3].data()};
    refused += !expected.compare(outputs).ok;
  }
  EXPECT_GE(refused, 36);
}

}  // namespace
}  // namespace ingot
