// What a user is told where the GPU is not the one that an engine needs, or hidden.
#include <gtest/gtest.h>

#include "device/target.h"
#include "e2e/gpu.h"
#include "e2e/models.h"
#include "e2e/run_ingot.h"

namespace ingot {
namespace {

class GpuErrors : public testing::Test {
 protected:
  void SetUp() override {
    if (!gpu_missing().empty()) GTEST_SKIP() << gpu_missing();
  }
  std::string engine_for(const std::string& target) {
    BuildConfig config = untuned("bfloat16");
    config.target = target;
    build_engine_dir(PretrainedModel::from_pretrained(baker_7m()), config, directory_ / "engine");
    return directory_ / "engine";
  }
  TemporaryDirectory directory_;
};

TEST_F(GpuErrors, AnEngineForAnotherGpuIsRefused) {
  std::string present = parse_target("cuda", 1).cuda_arch, other = present == "sm_80" ? "sm_90a" : "sm_80";
  ProgramRun run = run_ingot({"run", engine_for("cuda:" + other), "Once", "-n", "2"});
  EXPECT_EQ(run.code, 4);
  EXPECT_TRUE(contains(run.err, "needs " + other) && contains(run.err, present)) << run.err;
  EXPECT_EQ(run.out, "");
}

TEST_F(GpuErrors, AHiddenGpuIsMissing) {
  std::string engine = engine_for("cuda");
  EXPECT_EQ(run_ingot({"run", engine, "Once", "-n", "2"}).code, 0);
  ProgramRun run = run_ingot({"run", engine, "Once", "-n", "2"}, {.environment = {"CUDA_VISIBLE_DEVICES="}});
  EXPECT_EQ(run.code, 4);
  EXPECT_TRUE(contains(run.err, "needs an NVIDIA GPU")) << run.err;
}

TEST_F(GpuErrors, DamagedWeightsAreFoundOnTheirWay) {
  const Path file = engine_for("cuda") + "/rank0.engine";
  std::string bytes = read_text_file(file);
  bytes[5000] ^= 1;  // weights begin at 4096
  write_text_file(file, bytes);
  ProgramRun run = run_ingot({"run", directory_ / "engine", "Once", "-n", "2"});
  EXPECT_EQ(run.code, 4);
  EXPECT_TRUE(contains(run.err, "rank0.engine: section weights: damaged: the checksum of block 0")) << run.err;
  EXPECT_EQ(run.out, "");
}

}  // namespace
}  // namespace ingot
