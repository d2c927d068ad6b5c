// What a user is told where the GPU is not the one that an engine needs, or hidden, or where a kernel fails on it.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/json.h"
#include "device/target.h"
#include "e2e/gpu.h"
#include "e2e/models.h"
#include "e2e/run_ingot.h"
#include "plan/engine_file.h"

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

// The engine, and in its decodes of one token a norm that reads from where nothing is.
class FailingStep : public GpuErrors {
 protected:
  static constexpr const char* kLabel = "layers.2.post_attention_layernorm";

  std::string failing_engine() {
    std::string directory = engine_for("cuda");
    const std::string file = directory + "/rank0.engine";
    std::string hash;
    {
      const EngineFile engine = EngineFile::open(file);
      Plan plan = engine.plan();
      Program& program = plan.programs.at(0);
      EXPECT_TRUE(program.dims.at(0).symbol == "tokens" && program.dims[0].max == 1);
      for (size_t i = 0; i < program.steps.size(); ++i)
        if (program.steps[i].label == kLabel) break_step(program.steps[i]), failing_ = i;
      EngineWriter writer(directory_ / "failing");
      writer.write_weights(engine.weights());
      hash = writer.finish(plan, engine.modules());
    }
    std::filesystem::rename(directory_ / "failing", file);
    Json config = parse_json(read_text_file(directory + "/config.json"));
    config.set("content_hash", hash);
    write_text_file(directory + "/config.json", config.dump(2));
    EXPECT_GT(failing_, 0u) << "no step " << kLabel;
    return directory;
  }
  static void break_step(Step& step) {
    const std::string good = "\"buf 0\"", bad = "\"i64 16\"";
    const size_t at = step.parameters.find(good);
    ASSERT_NE(at, std::string::npos) << step.parameters;
    step.parameters.replace(at, good.size(), bad);
  }

  size_t failing_ = 0;
};

TEST_F(FailingStep, TheProgramIsNamedAndTheProcessEnds) {
  const std::string engine = failing_engine();
  // The prompt runs in another program; that it is well is seen where no token follows.
  EXPECT_EQ(run_ingot({"run", engine, "Once upon a time", "-n", "1"}).code, 0);
  const ProgramRun run = run_ingot({"run", engine, "Once upon a time", "-n", "40"});
  EXPECT_EQ(run.code, 1);
  EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
  EXPECT_TRUE(run.err.starts_with("ingot: a step of program ")) << run.err;
  EXPECT_TRUE(contains(run.err, "program 0 (main, tokens 1..1)")) << run.err;
  EXPECT_TRUE(contains(run.err, "which the debug log names: work on the GPU failed: ")) << run.err;
  EXPECT_TRUE(contains(run.err, "CUDA_ERROR_ILLEGAL_ADDRESS")) << run.err;
  EXPECT_TRUE(contains(run.err, "start it again")) << run.err;
}

TEST_F(FailingStep, TheDebugLogNamesTheStep) {
  const ProgramRun run =
      run_ingot({"run", failing_engine(), "Once upon a time", "-n", "40"}, {.environment = {"INGOT_LOG=debug"}});
  EXPECT_EQ(run.code, 1);
  const size_t last = run.err.rfind("\ningot: ");
  ASSERT_NE(last, std::string::npos) << run.err;
  const std::string error = run.err.substr(last + 1);
  EXPECT_TRUE(error.starts_with(format("ingot: program 0 (main, tokens 1..1): step {} ({}): ", failing_, kLabel)))
      << error;
  EXPECT_TRUE(contains(error, "CUDA_ERROR_ILLEGAL_ADDRESS")) << error;
}

}  // namespace
}  // namespace ingot
