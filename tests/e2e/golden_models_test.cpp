// Every architecture, from checkpoint to tokens: logits and greedy continuations computed by the transformers library.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "e2e/gpu.h"
#include "e2e/temporary_directory.h"
#include "ingot/builder.h"
#include "ingot/inspect.h"
#include "tactics/cuda/device_code.h"

namespace ingot {
namespace {

const std::filesystem::path kModels = std::filesystem::path(INGOT_SOURCE_DIR) / "tests/data/models";

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kModels))
    if (std::filesystem::exists(entry.path() / "golden.safetensors")) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

class GoldenModel : public testing::TestWithParam<std::string> {
 protected:
  Verification verify_as(const std::string& dtype, int opt_level, const std::string& target = "cpu") {
    TemporaryDirectory directory;
    std::string model = (kModels / GetParam()).string();
    BuildConfig config;
    config.dtype = dtype;
    config.opt_level = opt_level;
    config.max_num_tokens = 64;
    config.threads = 2;
    config.target = target;
    build_engine_dir(PretrainedModel::from_pretrained(model), config, directory / "engine");
    return verify(Engine::from_dir(directory / "engine"), model + "/golden.safetensors", 0, 2);
  }
};

TEST_P(GoldenModel, Float32) {
  Verification v = verify_as("float32", 0);
  EXPECT_LE(v.relative_error, 1e-4);
  EXPECT_EQ(v.top1_agreement, 1);
  EXPECT_EQ(v.greedy_match_tokens, v.greedy_tokens);
  EXPECT_TRUE(v.passed);
}

TEST_P(GoldenModel, BFloat16) {
  Verification v = verify_as("bfloat16", 0);
  EXPECT_LE(v.relative_error, 3e-2);
  EXPECT_TRUE(v.passed);
}

TEST_P(GoldenModel, Float32Tuned) {
  Verification v = verify_as("float32", 1);
  EXPECT_LE(v.relative_error, 1e-4);
  EXPECT_EQ(v.greedy_match_tokens, v.greedy_tokens);
}

TEST_P(GoldenModel, Float32OnTheGpu) {
  if (!gpu_missing().empty()) GTEST_SKIP() << gpu_missing();
  Verification v = verify_as("float32", 0, "cuda");
  EXPECT_LE(v.relative_error, 1e-4);
  EXPECT_EQ(v.top1_agreement, 1);
  EXPECT_EQ(v.greedy_match_tokens, v.greedy_tokens);
}

TEST_P(GoldenModel, BFloat16OnTheGpu) {
  if (!gpu_missing().empty()) GTEST_SKIP() << gpu_missing();
  Verification v = verify_as("bfloat16", 0, "cuda");
  EXPECT_LE(v.relative_error, 3e-2);
}

TEST_P(GoldenModel, Float32TunedOnTheGpu) {
  if (!gpu_missing().empty()) GTEST_SKIP() << gpu_missing();
  Verification v = verify_as("float32", 1, "cuda");
  EXPECT_LE(v.relative_error, 1e-4);
  EXPECT_EQ(v.greedy_match_tokens, v.greedy_tokens);
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenModel, testing::ValuesIn(model_names()), [](const auto& info) {
  std::string name = info.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !isalnum(c); }, '_');
  return name;
});

// Without a GPU an engine for one can be built, and says why it does not run here.
class CrossBuild : public testing::TestWithParam<const char*> {};

TEST_P(CrossBuild, GivesAnEngineThatSaysWhatItNeeds) {
  if (compiler_version().empty()) GTEST_SKIP() << why_no_compiler();
  TemporaryDirectory directory;
  BuildConfig config;
  config.dtype = "bfloat16";
  config.opt_level = 0;
  config.max_num_tokens = 64;
  config.target = "cuda:sm_90a";
  BuildReport report =
      build_engine_dir(PretrainedModel::from_pretrained((kModels / GetParam()).string()), config, directory / "engine");
  EXPECT_GT(report.engine_bytes, 0);
  if (gpu_missing().empty()) return;
  try {
    Engine::from_dir(directory / "engine");
    FAIL() << "there is no GPU";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIncompatible);
    EXPECT_NE(std::string(error.what()).find("needs an NVIDIA GPU"), std::string::npos) << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Models, CrossBuild, testing::Values("llama", "mixtral", "gemma3"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace ingot
