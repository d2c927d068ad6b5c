// Every architecture, from checkpoint to tokens: logits and greedy continuations computed by the transformers library.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "e2e/temporary_directory.h"
#include "ingot/builder.h"
#include "ingot/inspect.h"

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
  Verification verify_as(const std::string& dtype, int opt_level) {
    TemporaryDirectory directory;
    std::string model = (kModels / GetParam()).string();
    BuildConfig config;
    config.dtype = dtype;
    config.opt_level = opt_level;
    config.max_num_tokens = 64;
    config.threads = 2;
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

INSTANTIATE_TEST_SUITE_P(Models, GoldenModel, testing::ValuesIn(model_names()), [](const auto& info) {
  std::string name = info.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !isalnum(c); }, '_');
  return name;
});

}  // namespace
}  // namespace ingot
