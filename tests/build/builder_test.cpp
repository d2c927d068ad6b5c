// The public Builder: networks, configurations with what they refuse, shared times, files that read back.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/thread_pool.h"
#include "device/target.h"
#include "e2e/temporary_directory.h"
#include "ingot/builder.h"
#include "ir/text.h"
#include "tune/timing_cache.h"

namespace ingot {
namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

PretrainedModel llama() {
  return PretrainedModel::from_pretrained(std::string(INGOT_SOURCE_DIR) + "/tests/data/models/llama");
}

// Small enough that measuring takes no time worth mentioning.
BuilderOptions small() {
  BuilderOptions options;
  options.opt_level = 1;
  options.build.max_batch_size = 2;
  options.build.max_num_tokens = 16;
  options.build.threads = 1;
  return options;
}

// Expects a usage Error and gives its text.
template <class F>
std::string refusal_of(F&& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}
std::string refusal(const BuilderOptions& options) {
  return refusal_of([&] { Builder().create_builder_config("float32", options); });
}

TEST(BuilderConfig, TakesThreePrecisionsAndNamesThemOtherwise) {
  for (const char* precision : {"float32", "float16", "bfloat16"}) {
    BuilderConfig config = Builder().create_builder_config(precision);
    EXPECT_EQ(config.precision(), precision);
    EXPECT_EQ(config.build_config().dtype, precision);
  }
  for (const char* precision : {"", "int8", "Float32", "bf16"}) {
    std::string text = refusal_of([&] { Builder().create_builder_config(precision); });
    EXPECT_TRUE(contains(text, "float32, float16, bfloat16")) << text;
  }
}

TEST(BuilderConfig, RefusesWhatThisVersionLacksWithTheReason) {
  EXPECT_TRUE(contains(refusal({.use_refit = true, .int8 = true}), "exclude each other"));
  EXPECT_TRUE(contains(refusal({.tensor_parallel = 2}), "tensor_parallel is 2; this version"));
  EXPECT_TRUE(contains(refusal({.tensor_parallel = 0}), "needed 1"));
  EXPECT_TRUE(contains(refusal({.use_refit = true}), "use_refit is true; this version does not have it"));
  EXPECT_TRUE(contains(refusal({.int8 = true}), "int8 is true; this version does not have it"));
  EXPECT_TRUE(contains(refusal({.fp8 = true}), "fp8 is true; this version does not have it"));
  EXPECT_TRUE(contains(refusal({.strongly_typed = false}), "strongly typed networks only"));
}

TEST(BuilderConfig, RefusesContradictions) {
  BuilderOptions options;
  options.build.dtype = "bfloat16";
  EXPECT_TRUE(contains(refusal(options), "build.dtype bfloat16"));
  options.build.dtype = "float32";
  EXPECT_NO_THROW(Builder().create_builder_config("float32", options));
  options.build.timing_cache = "times.txt";
  EXPECT_TRUE(contains(refusal(options), "BuilderOptions::timing_cache"));
  for (const char* name : {"max_batch_size", "precision", "dtype", "timing_cache"})
    EXPECT_TRUE(contains(refusal({.extra = {{name, "1"}}}), name));
}

TEST(BuilderConfig, KeepsLimitsAndAttributes) {
  BuilderOptions options = small();
  options.build.opt_level = 5;
  options.extra = {{"name", "toy"}, {"empty", ""}};
  BuilderConfig config = Builder().create_builder_config("float32", options);
  EXPECT_EQ(config.build_config().max_num_tokens, 16);
  EXPECT_EQ(config.build_config().opt_level, 1) << "the option counts";
  EXPECT_EQ(config.extra(), options.extra);
  options.opt_level.reset();
  EXPECT_EQ(Builder().create_builder_config("float32", options).build_config().opt_level, 5);
}

TEST(BuilderConfig, AMissingOrInvalidTimingCacheIsToldAndReplaced) {
  TemporaryDirectory directory;
  write_text_file(directory / "garbage", std::string("\x7f"
                                                     "ELF\0\1\2 not | a cache\n",
                                                     22));
  for (const std::string& file :
       {directory / "missing", directory.path().string(), directory / "garbage", directory / std::string(300, 'x')}) {
    testing::internal::CaptureStderr();
    BuilderConfig config = Builder().create_builder_config("float32", {.timing_cache = file});
    std::string notice = testing::internal::GetCapturedStderr();
    EXPECT_TRUE(contains(notice, "timing cache " + file)) << notice;
    EXPECT_EQ(config.timing_cache()->size(), 0u);
  }
  testing::internal::CaptureStderr();
  EXPECT_TRUE(Builder().create_builder_config("float32").timing_cache());
  EXPECT_TRUE(
      Builder().create_builder_config("float32", {.timing_cache = std::shared_ptr<TimingCache>()}).timing_cache());
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "asking for none is no reason for a notice";
}

TEST(NetworkDefinition, HasATextAndNamedParameters) {
  NetworkDefinition network = Builder().create_network(llama());
  Network parsed = parse_network(network.text());
  EXPECT_EQ(print(parsed), network.text());
  EXPECT_TRUE(contains(network.text(), "rms_norm(") && contains(network.text(), "bf16[")) << network.text();
  std::vector<std::string> names = network.named_parameters();
  auto weights = std::count_if(parsed.nodes().begin(), parsed.nodes().end(),
                               [](const Node& node) { return node.kind == NodeKind::kWeight; });
  EXPECT_EQ(static_cast<int64_t>(names.size()), weights);
  for (const std::string& name : names) EXPECT_NE(parsed.find(name), Value{}) << name;
  EXPECT_TRUE(std::any_of(names.begin(), names.end(),
                          [](const std::string& name) { return contains(name, "layers.1.self_attn.q_proj.weight"); }));
}

TEST(Builder, TheSavedTimesOfABuildServeTheNextAndGiveEqualBytes) {
  TemporaryDirectory directory;
  Builder builder;
  NetworkDefinition network = builder.create_network(llama());
  BuilderOptions options = small();
  BuilderConfig first = builder.create_builder_config("float32", options);
  std::vector<std::string> phases;
  BuildReport filled = builder.build_engine(network, first, directory / "a",
                                            [&](std::string_view phase, double) { phases.emplace_back(phase); });
  EXPECT_GT(filled.measured, 0);
  EXPECT_NE(std::find(phases.begin(), phases.end(), "write"), phases.end());
  Builder::save_timing_cache(first, directory / "times.txt");
  EXPECT_EQ(read_text_file(directory / "times.txt"), first.timing_cache()->text());

  options.timing_cache = directory / "times.txt";
  BuilderConfig second = builder.create_builder_config("float32", options);
  BuildReport read = builder.build_engine(network, second, directory / "b");
  EXPECT_EQ(read.measured, 0);
  EXPECT_EQ(read.cache_hits, filled.measured);
  for (const char* file : {"rank0.engine", "config.json"})
    EXPECT_TRUE(read_text_file(directory / (std::string("a/") + file)) ==
                read_text_file(directory / (std::string("b/") + file)))
        << file;

  options.timing_cache = first.timing_cache();
  BuilderConfig third = builder.create_builder_config("float32", options);
  EXPECT_EQ(third.timing_cache(), first.timing_cache());
  EXPECT_EQ(builder.build_engine(network, third, directory / "c").measured, 0);
  EXPECT_EQ(read_text_file(directory / "times.txt"), second.timing_cache()->text()) << "reading changes nothing";
}

TEST(Builder, AFailedBuildKeepsItsTimesAndLeavesNoDirectory) {
  TemporaryDirectory directory;
  Builder builder;
  NetworkDefinition network = builder.create_network(llama());
  BuilderOptions options = small();
  options.build.max_host_bytes = 1;
  std::filesystem::create_directory(directory / "kept");
  BuilderConfig tight = builder.create_builder_config("float32", options);
  for (const char* out : {"new/inner/engine", "new/engine/", "kept/new/engine"})
    EXPECT_THROW(builder.build_engine(network, tight, directory / out), Error);
  // The second component cannot be created, the first one was.
  EXPECT_THROW(builder.build_engine(network, tight, directory / ("new/" + std::string(300, 'x'))), Error);
  EXPECT_FALSE(std::filesystem::exists(directory / "new"));
  EXPECT_TRUE(std::filesystem::is_empty(directory / "kept")) << "what stood there stays, and only that";

  options.build.max_host_bytes = 0;
  options.timing_cache = tight.timing_cache();
  BuilderConfig wide = builder.create_builder_config("float32", options);
  EXPECT_EQ(builder.build_engine(network, wide, directory / "new/inner/engine").measured, 0);
  EXPECT_TRUE(std::filesystem::exists(directory / "new/inner/engine/rank0.engine"));
}

TEST(BuildIdentity, NamesTheResolvedTargetAndChangesWithTheSettings) {
  BuildConfig config;
  const std::string best = build_identity(config);
  EXPECT_TRUE(contains(best, "ingot 0.1.0") && contains(best, "cpu.matmul_portable@")) << best;
  EXPECT_FALSE(contains(best, "cuda.")) << best;
  config.threads = usable_cpus();
  EXPECT_EQ(build_identity(config), best) << "what 0 means";
  config.target = parse_target("cpu", config.threads).text();
  EXPECT_EQ(build_identity(config), best) << "what cpu means";
  std::vector<BuildConfig> others(5, config);
  others[0].threads = config.threads + 1;
  others[1].dtype = "float16";
  others[2].max_seq_len = 64;
  others[3].target = config.target == "cpu:portable" ? "cpu:avx2" : "cpu:portable";
  others[4].disable = {"merge_qkv"};
  for (const BuildConfig& other : others) EXPECT_NE(build_identity(other), best);
  config.target = "cuda:sm_90a";
  EXPECT_TRUE(contains(build_identity(config), "cuda.gemm_sm90@"));
}

TEST(Builder, SavedConfigurationsReadBack) {
  TemporaryDirectory directory;
  BuilderOptions options = small();
  options.build.tokens_per_block = 16;
  options.build.disable = {"merge_qkv"};
  options.extra = {{"name", "toy"}, {"note", "\"quoted\" ü"}};
  BuilderConfig config = Builder().create_builder_config("float16", options);
  Builder::save_config(config, directory / "config.json");
  Json json = parse_json(read_text_file(directory / "config.json"));
  EXPECT_EQ(json.at("plugin_config"), Json::object());
  const Json& inner = json.at("builder_config");
  EXPECT_EQ(inner.at("precision"), Json("float16"));
  EXPECT_EQ(inner.at("tensor_parallel"), Json(1));
  for (const char* key : {"use_refit", "int8", "fp8"}) EXPECT_EQ(inner.at(key), Json(false)) << key;
  EXPECT_EQ(inner.at("max_num_tokens"), Json(16));
  EXPECT_EQ(inner.at("name"), Json("toy"));

  BuilderConfig back = Builder::load_config(directory / "config.json");
  EXPECT_EQ(back.precision(), "float16");
  EXPECT_EQ(back.extra(), options.extra);
  EXPECT_EQ(back.build_config().disable, options.build.disable);
  EXPECT_EQ(back.build_config().opt_level, 1);
  EXPECT_EQ(back.timing_cache()->size(), 0u);
  Builder::save_config(back, directory / "again.json");
  EXPECT_EQ(read_text_file(directory / "again.json"), read_text_file(directory / "config.json"));
}

TEST(Builder, LoadConfigRefusesWhatCannotBeMeant) {
  TemporaryDirectory directory;
  auto load = [&](const std::string& inner) {
    write_text_file(directory / "config.json", "{\"builder_config\": {" + inner + "}}");
    return Builder::load_config(directory / "config.json");
  };
  EXPECT_EQ(load("\"precision\": \"float32\", \"author\": \"me\"").extra().at("author"), "me");
  std::string text = refusal_of([&] { load("\"precision\": \"float32\", \"max_bach_size\": 4"); });
  EXPECT_TRUE(contains(text, "config.json") && contains(text, "\"max_batch_size\"")) << text;
  EXPECT_TRUE(contains(refusal_of([&] { load("\"precision\": \"float64\""); }), "float32, float16, bfloat16"));
  EXPECT_TRUE(contains(refusal_of([&] { load("\"precision\": \"float32\", \"int8\": true"); }), "int8"));
  EXPECT_TRUE(contains(refusal_of([&] { load("\"precision\": \"float32\", \"strongly_typed\": false"); }), "typed"));
  for (const char* damaged :
       {"", "\"precision\": 3", "\"precision\": \"float32\", \"tensor_parallel\": \"two\"", "\"precision\": "})
    EXPECT_THROW(load(damaged), Error) << damaged;
  write_text_file(directory / "config.json", "[]");
  EXPECT_THROW(Builder::load_config(directory / "config.json"), Error);
  EXPECT_THROW(Builder::load_config(directory / "missing.json"), Error);
}

}  // namespace
}  // namespace ingot
