// What a build promises: reproducible bytes, one meaning whatever is chosen, targets, sources of models, limits.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <map>

#include "base/json.h"
#include "device/target.h"
#include "e2e/models.h"
#include "e2e/run_ingot.h"
#include "ingot/generate.h"
#include "ingot/inspect.h"
#include "passes/pass.h"

namespace ingot {
namespace {

void expect_equal_files(const std::string& a, const std::string& b) {
  EXPECT_TRUE(read_text_file(a) == read_text_file(b)) << a << " and " << b << " differ";
}

Json result_of(const ProgramRun& run) {
  EXPECT_EQ(run.code, 0) << run.err;
  return run.code == 0 ? parse_json(run.out) : Json::object();
}

std::vector<int32_t> greedy_tokens(const Engine& engine, int64_t count = 24) {
  SamplingParams params;
  params.max_tokens = count;
  params.ignore_eos = true;
  return Session(engine, {.threads = 2}).generate_ids({5, 17, 42, 9}, params).ids;
}

BuildConfig small_steps(const std::string& dtype, int opt_level) {
  BuildConfig config = untuned(dtype);
  config.opt_level = opt_level;
  config.max_batch_size = 2;
  config.max_num_tokens = 8;
  return config;
}

TEST(Build, TheBuildThatFillsATimingCacheAndTheOneThatReadsItGiveEqualBytes) {
  TemporaryDirectory directory;
  PretrainedModel model = PretrainedModel::from_pretrained(toy_model("qwen3"));
  BuildConfig config = small_steps("bfloat16", 1);
  config.timing_cache = directory / "times.txt";
  BuildReport fills = build_engine_dir(model, config, directory / "a");
  std::string times = read_text_file(config.timing_cache);
  BuildReport reads = build_engine_dir(model, config, directory / "b");
  EXPECT_GT(fills.measured, 10);
  EXPECT_EQ(reads.measured, 0);
  EXPECT_EQ(reads.cache_hits, fills.measured);
  EXPECT_EQ(reads.content_hash, fills.content_hash);
  expect_equal_files(directory / "a/rank0.engine", directory / "b/rank0.engine");
  expect_equal_files(directory / "a/config.json", directory / "b/config.json");
  EXPECT_EQ(read_text_file(config.timing_cache), times);
  config.disable = {};
  config.frozen = true;
  build_engine_dir(model, config, directory / "c");
  expect_equal_files(directory / "a/rank0.engine", directory / "c/rank0.engine");
}

TEST(Build, AnotherProcessAndAnotherPlaceGiveEqualBytes) {
  TemporaryDirectory directory;
  std::vector<std::string> arguments = {"build", toy_model("llama"), "-O0", "--threads", "2", "-o", directory / "a"};
  EXPECT_EQ(run_ingot(arguments).code, 0);
  arguments.back() = directory / "deeper/b/";
  EXPECT_EQ(run_ingot(arguments).code, 0);
  BuildConfig config;
  config.opt_level = 0;
  config.threads = 2;
  build_engine_dir(PretrainedModel::from_pretrained(toy_model("llama")), config, directory / "c");
  for (const char* file : {"rank0.engine", "config.json"})
    for (const char* other : {"deeper/b/", "c/"})
      expect_equal_files(directory / (std::string("a/") + file), directory / (std::string(other) + file));
}

TEST(Build, FrozenFailsWhenTheTimingCacheLacksATime) {
  TemporaryDirectory directory;
  ProgramRun run = run_ingot({"build", toy_model("llama"), "-o", directory / "engine", "--frozen"});
  EXPECT_EQ(run.code, 4);
  EXPECT_TRUE(contains(run.err, "--frozen: the timing cache does not know every candidate of")) << run.err;
  EXPECT_TRUE(contains(run.err, "build once without --frozen")) << run.err;
  EXPECT_FALSE(std::filesystem::exists(directory / "engine"));
}

TEST(Build, LevelZeroMeasuresNothingAndKeepsNoTimes) {
  TemporaryDirectory directory;
  BuildConfig config = untuned("float32");
  config.timing_cache = directory / "times.txt";
  BuildReport report =
      build_engine_dir(PretrainedModel::from_pretrained(toy_model("llama")), config, directory / "engine");
  EXPECT_EQ(report.measured, 0);
  EXPECT_EQ(report.cache_hits, 0);
  EXPECT_GT(report.problems, 50);
  EXPECT_FALSE(std::filesystem::exists(config.timing_cache));
}

// Nothing that only a GPU or a measurement needs is loaded or allocated.
TEST(Build, LevelZeroForACpuTakesLittleMemory) {
  TemporaryDirectory directory;
  ProgramRun run = run_ingot({"build", baker_7m(), "-O0", "-o", directory / "engine", "--target", "cpu", "--json"});
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_LT(parse_json(run.out).at("peak_host_bytes").as_int(), 32 << 20);
}

TEST(Build, LevelZeroStoresNoWeightTwice) {
  TemporaryDirectory directory;
  BuildReport report =
      build_engine_dir(PretrainedModel::from_pretrained(baker_7m()), untuned("bfloat16"), directory / "engine");
  EXPECT_LT(report.engine_bytes, 16 << 20) << "14 MiB of weights, whose embedding is also the head";
}

// The source that serves most matmul steps of the smallest program.
std::string matmul_source(const std::string& engine) {
  std::map<std::string, int> counts;
  Json found = parse_json(inspect(engine, {.layers = true}));
  for (const Json& step : found.at("layers").as_array()) {
    std::string tactic = step.at("tactic").as_string();
    if (step.at("problem").as_string().starts_with("matmul ")) ++counts[tactic.substr(0, tactic.find_first_of(" @"))];
  }
  std::string most;
  for (const auto& [source, count] : counts)
    if (most.empty() || count > counts[most]) most = source;
  return most;
}

TEST(Build, LeavingOutTheWinnerChangesTheTacticAndNotTheTokens) {
  TemporaryDirectory directory;
  PretrainedModel model = PretrainedModel::from_pretrained(toy_model("llama"));
  BuildConfig config = small_steps("float32", 1);
  config.timing_cache = directory / "times.txt";
  build_engine_dir(model, config, directory / "best");
  std::string winner = matmul_source(directory / "best");
  ASSERT_TRUE(winner.starts_with("cpu.")) << winner;
  config.tactic_sources = "-" + winner;
  build_engine_dir(model, config, directory / "other");
  std::string second = matmul_source(directory / "other");
  EXPECT_TRUE(second.starts_with("cpu.")) << second;
  EXPECT_NE(second, winner);
  EXPECT_EQ(greedy_tokens(Engine::from_dir(directory / "other")), greedy_tokens(Engine::from_dir(directory / "best")));
}

TEST(Build, EveryPassMayBeLeftOut) {
  for (const std::string& model : {std::string("llama-tied-bias"), std::string("gemma3"), std::string("gpt2")}) {
    std::string everything;
    for (const Pass& pass : pass_list()) {
      std::string name(pass.name);
      SCOPED_TRACE(model + " without " + name);
      everything += (everything.empty() ? "" : " ") + name;
      BuildConfig config = untuned("float32");
      config.max_num_tokens = 64;
      config.disable = {name};
      Verification v = verify(quick_engine(toy_model(model), config), toy_model(model) + "/golden.safetensors", 0, 2);
      EXPECT_TRUE(v.passed) << v.relative_error;
    }
    SCOPED_TRACE(model + " without any pass");
    BuildConfig config = untuned("float32");
    config.max_num_tokens = 64;
    for (const Pass& pass : pass_list()) config.disable.emplace_back(pass.name);
    EXPECT_TRUE(verify(quick_engine(toy_model(model), config), toy_model(model) + "/golden.safetensors", 0, 2).passed);
  }
}

TEST(Build, AnUnknownPassIsRefusedWithTheNearestName) {
  TemporaryDirectory directory;
  ProgramRun run =
      run_ingot({"build", toy_model("llama"), "-O0", "-o", directory / "e", "--disable", "merge_qvk,dead_code"});
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(contains(run.err, "there is no pass \"merge_qvk\"")) << run.err;
  EXPECT_TRUE(contains(run.err, "the nearest is \"merge_qkv\"")) << run.err;
}

TEST(Build, EveryTargetOfThisMachineGivesTheSameTokens) {
  std::vector<int32_t> expected;
  int targets = 0;
  for (const char* level : {"portable", "avx2", "avx512", "amx"}) {
    std::string target = "cpu:" + std::string(level);
    if (!missing_for(parse_target(target, 2)).empty()) continue;
    SCOPED_TRACE(target);
    BuildConfig config = untuned("float32");
    config.target = target;
    Engine engine = quick_engine(baker_7m(), config);
    EXPECT_EQ(engine.target(), target);
    std::vector<int32_t> tokens = greedy_tokens(engine, 40);
    if (++targets == 1) expected = tokens;
    EXPECT_EQ(tokens, expected);
  }
  EXPECT_GE(targets, 1);
}

TEST(Build, AnEngineForAMissingInstructionSetIsRefusedWithTheReason) {
  TemporaryDirectory directory;
  std::string engine = directory / "engine";
  EXPECT_EQ(run_ingot({"build", toy_model("llama"), "-O0", "--target", "cpu:avx512", "-o", engine}).code, 0);
  ProgramRun run = run_ingot(
      {"--cpu-mask", "portable", "verify", engine, "--reference", toy_model("llama") + "/golden.safetensors"});
  EXPECT_EQ(run.code, 4);
  EXPECT_TRUE(contains(run.err, "the target cpu:avx512 needs avx512; this machine has portable")) << run.err;
  if (cpu_features().level < CpuLevel::kAvx2) GTEST_SKIP() << "this machine has no AVX2";
  run = run_ingot({"--cpu-mask", "avx2", "verify", engine, "--reference", toy_model("llama") + "/golden.safetensors"});
  EXPECT_EQ(run.code, 4);
  EXPECT_TRUE(contains(run.err, "the target cpu:avx512 needs avx512; this machine has avx2")) << run.err;
}

TEST(Build, AMissingInstructionSetCannotBeMeasured) {
  TemporaryDirectory directory;
  std::string engine = directory / "engine";
  std::vector<std::string> arguments = {"--cpu-mask", "portable", "build", toy_model("llama"),
                                        "--target",   "cpu:avx2", "-o",    engine};
  ProgramRun run = run_ingot(arguments);
  EXPECT_EQ(run.code, 4);
  EXPECT_TRUE(contains(run.err, "cpu:avx2 cannot be measured here: it needs avx2; this machine has portable"))
      << run.err;
  EXPECT_TRUE(contains(run.err, "-O0")) << run.err;
  EXPECT_FALSE(std::filesystem::exists(engine));
  arguments.push_back("-O0");
  EXPECT_EQ(run_ingot(arguments).code, 0);
  arguments.back() = "--target=cpu:sse9";
  run = run_ingot(arguments);
  EXPECT_EQ(run.code, 2) << run.err;
}

TEST(Build, AShardedCheckpointBuilds) {
  ASSERT_TRUE(std::filesystem::exists(toy_model("qwen2") + "/model.safetensors.index.json"));
  Verification v = verify(quick_engine(toy_model("qwen2")), toy_model("qwen2") + "/golden.safetensors", 0, 2);
  EXPECT_TRUE(v.passed) << v.relative_error;
}

TEST(Build, RandomWeightsFromALoneConfigurationFollowTheSeed) {
  TemporaryDirectory directory;
  std::string config = directory / "config.json";
  std::filesystem::copy_file(toy_model("llama") + "/config.json", config);
  auto hash = [&](const std::string& out, const std::string& seed) {
    std::vector<std::string> arguments = {"build", config, "--random-weights", "-O0", "--json", "-o", directory / out};
    if (!seed.empty()) arguments.push_back("--seed=" + seed);
    return result_of(run_ingot(arguments)).at("content_hash").as_string();
  };
  std::string first = hash("a", "");
  EXPECT_EQ(hash("b", ""), first);
  EXPECT_EQ(hash("c", "0"), first);
  EXPECT_NE(hash("d", "1"), first);
  expect_equal_files(directory / "a/rank0.engine", directory / "b/rank0.engine");
  EXPECT_EQ(greedy_tokens(Engine::from_dir(directory / "a")).size(), 24u);
}

TEST(Build, AModelWithoutATokenizerBuildsAndVerifies) {
  TemporaryDirectory directory;
  std::string engine = directory / "engine", model = toy_model("mistral-sliding");
  ASSERT_FALSE(std::filesystem::exists(model + "/tokenizer.json"));
  EXPECT_EQ(run_ingot({"build", model, "-O0", "--dtype", "float32", "-o", engine}).code, 0);
  EXPECT_EQ(run_ingot({"verify", engine, "--reference", model + "/golden.safetensors"}).code, 0);
  write_text_file(directory / "text", "Hello");
  for (const std::string& source : {engine, model})
    for (const std::vector<std::string>& arguments : {std::vector<std::string>{"run", source, "Hello"},
                                                      {"eval", "perplexity", source, "--text", directory / "text"}}) {
      ProgramRun run = run_ingot(arguments);
      EXPECT_EQ(run.code, 1);
      EXPECT_TRUE(contains(run.err, source + " has no tokenizer.json")) << run.err;
      EXPECT_TRUE(contains(run.err, "`bench` and `verify` work without")) << run.err;
      EXPECT_FALSE(contains(run.err, "building")) << run.err;
    }
}

TEST(Build, ADirectoryWithOnlyATokenizerServesTokenize) {
  TemporaryDirectory directory;
  std::filesystem::create_directories(directory / "text");
  std::filesystem::copy_file(baker_7m() + "/tokenizer.json", directory / "text/tokenizer.json");
  ProgramRun run = run_ingot({"tokenize", directory / "text", "--json"}, {.text = "{\"text\": \"The old man\"}\n"});
  Json ids = result_of(run);
  EXPECT_GT(ids.at("ids_no_special").as_array().size(), 0u);
  EXPECT_EQ(run_ingot({"build", directory / "text", "-o", directory / "engine"}).code, 1);
}

TEST(Build, AnEngineDirectoryRunsAlone) {
  TemporaryDirectory directory;
  std::string model = copy_of_model(baker_7m(), directory), engine = directory / "engine";
  EXPECT_EQ(run_ingot({"build", model, "-O0", "-o", engine}).code, 0);
  std::filesystem::remove_all(model);
  for (const char* file : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"})
    EXPECT_TRUE(std::filesystem::exists(engine + "/" + file)) << file;
  ProgramRun run = run_ingot({"run", engine, "The old man", "-n", "4"});
  EXPECT_EQ(run.code, 0) << run.err;
}

TEST(Build, ANewEngineDoesNotKeepTheTokenizerOfTheOneBefore) {
  TemporaryDirectory directory;
  std::string engine = directory / "engine";
  build_engine_dir(PretrainedModel::from_pretrained(baker_7m()), untuned("bfloat16"), engine);
  write_text_file(engine + "/notes.txt", "mine");
  build_engine_dir(PretrainedModel::from_pretrained(toy_model("llama")), untuned("bfloat16"), engine);
  EXPECT_FALSE(std::filesystem::exists(engine + "/tokenizer.json"));
  EXPECT_TRUE(std::filesystem::exists(engine + "/notes.txt"));
}

TEST(Build, OverridesAreReportedAndStrictRefusesThem) {
  TemporaryDirectory directory;
  std::vector<std::string> arguments = {
      "build", toy_model("gpt2"),  "-O0", "--json",           "-o", directory / "engine", "--max-seq-len",
      "8k",    "--max-batch-size", "64",  "--max-num-tokens", "16", "--kv-cache-type",    "continuous"};
  Json report = result_of(run_ingot(arguments));
  std::map<std::string, std::pair<std::string, std::string>> changes;
  for (const Json& change : report.at("overrides").as_array()) {
    EXPECT_FALSE(change.at("reason").as_string().empty());
    changes[change.at("setting").as_string()] = {change.at("asked").as_string(), change.at("used").as_string()};
  }
  using Change = std::pair<std::string, std::string>;
  EXPECT_EQ(changes["max_seq_len"], Change("8192", "256"));
  EXPECT_EQ(changes["max_num_tokens"], Change("16", "64"));
  EXPECT_EQ(changes["kv_cache_type"], Change("continuous", "paged"));
  EXPECT_EQ(changes.size(), 3u);
  arguments.push_back("--strict");
  arguments[5] = directory / "strict";
  ProgramRun run = run_ingot(arguments);
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(contains(run.err, "--strict: ")) << run.err;
  EXPECT_FALSE(std::filesystem::exists(directory / "strict"));
}

TEST(Build, AnUnknownArchitectureNamesTheNearestFamily) {
  TemporaryDirectory directory;
  std::string model = copy_of_model(toy_model("qwen3"), directory);
  std::string config = read_text_file(model + "/config.json");
  config.replace(config.find("Qwen3ForCausalLM"), 16, "Qwen9ForCausalLM");
  write_text_file(model + "/config.json", config);
  for (const char* verb : {"build", "estimate"}) {
    std::vector<std::string> arguments = {verb, model};
    if (arguments[0] == "build") arguments.insert(arguments.end(), {"-o", directory / "engine"});
    ProgramRun run = run_ingot(arguments);
    EXPECT_EQ(run.code, 6);
    EXPECT_TRUE(contains(run.err, "Qwen9ForCausalLM")) << run.err;
    EXPECT_TRUE(contains(run.err, "Qwen3ForCausalLM") || contains(run.err, "Qwen2ForCausalLM")) << run.err;
  }
  EXPECT_FALSE(std::filesystem::exists(directory / "engine"));
}

TEST(Build, ADryRunWritesNoEngine) {
  TemporaryDirectory directory;
  ProgramRun run = run_ingot({"build", toy_model("llama"), "-O0", "--dry-run", "--json", "-o", directory / "engine"});
  EXPECT_GT(result_of(run).at("problems").as_int(), 0);
  EXPECT_FALSE(std::filesystem::exists(directory / "engine"));
}

TEST(Build, ADryRunFillsTheTimingCache) {
  TemporaryDirectory directory;
  std::vector<std::string> arguments = {
      "build", toy_model("llama"), "--max-num-tokens", "4", "--timing-cache", directory / "times", "--json"};
  std::vector<std::string> dry = arguments, frozen = arguments;
  dry.insert(dry.end(), {"-O1", "--dry-run"});
  frozen.insert(frozen.end(), {"--frozen", "-o", directory / "engine"});
  int64_t measured = result_of(run_ingot(dry)).at("measured").as_int();
  EXPECT_GT(measured, 0);
  EXPECT_EQ(result_of(run_ingot(frozen)).at("cache_hits").as_int(), measured);
}

TEST(Build, TheModelsOwnDirectoryIsNoPlaceForTheEngine) {
  TemporaryDirectory directory;
  std::string model = copy_of_model(toy_model("llama"), directory);
  std::string before = read_text_file(model + "/config.json");
  ProgramRun run = run_ingot({"build", model, "-O0", "-o", model + "/."});
  EXPECT_EQ(run.code, 2) << run.err;
  EXPECT_EQ(read_text_file(model + "/config.json"), before);
  EXPECT_FALSE(std::filesystem::exists(model + "/rank0.engine"));
}

TEST(Build, AnotherModelsDirectoryIsNoPlaceForTheEngine) {
  TemporaryDirectory directory;
  std::string other = copy_of_model(toy_model("llama"), directory), before = read_text_file(other + "/config.json");
  ProgramRun run = run_ingot({"build", baker_7m(), "-O0", "-o", other});
  EXPECT_EQ(run.code, 2) << run.err;
  EXPECT_TRUE(contains(run.err, other + " exists and is no engine directory")) << run.err;
  EXPECT_EQ(read_text_file(other + "/config.json"), before);
  EXPECT_FALSE(std::filesystem::exists(other + "/rank0.engine"));
}

TEST(Build, MoreHostMemoryThanAllowedIsAnErrorThatLeavesNothing) {
  TemporaryDirectory directory;
  ProgramRun run = run_ingot({"build", toy_model("llama"), "-O0", "-o", directory / "e", "--max-host-mem", "4k"});
  EXPECT_EQ(run.code, 3);
  EXPECT_TRUE(contains(run.err, "4.00 KiB")) << run.err;
  EXPECT_FALSE(std::filesystem::exists(directory / "e"));
}

TEST(Estimate, CountsTheLargestModels) {
  TemporaryDirectory directory;
  write_text_file(directory / "config.json",
                  R"({"architectures": ["GPTNeoXForCausalLM"], "hidden_size": 12288, "num_attention_heads": 96,
                      "num_hidden_layers": 96, "intermediate_size": 49152, "vocab_size": 50432, "rotary_pct": 0.25,
                      "max_position_embeddings": 2048, "hidden_act": "gelu", "torch_dtype": "float32"})");
  Json json = result_of(run_ingot({"estimate", directory / "config.json", "--memory", "4TiB", "--json"}));
  const int64_t position = json.at("kv_bytes_per_token").as_int();
  EXPECT_EQ(position, int64_t{96} * 2 * 12288 * 4);
  EXPECT_EQ(json.at("kv_bytes_full").as_int(), 16 * 2048 * position);
  EXPECT_LT(json.at("tokens_that_fit").as_int(), (int64_t{4} << 40) / position);
  EXPECT_GT(json.at("tokens_that_fit").as_int(), (int64_t{3} << 40) / position);
}

TEST(Estimate, SaysWhetherItFitsAndWhatWould) {
  ProgramRun fits = run_ingot({"estimate", toy_model("llama"), "--memory", "1GiB", "--json"});
  Json json = result_of(fits);
  EXPECT_TRUE(json.at("fits").as_bool());
  EXPECT_EQ(json.at("advice").as_string(), "");
  ProgramRun tight =
      run_ingot({"estimate", toy_model("llama"), "--max-num-tokens", "16", "--memory", "820k", "--json"});
  EXPECT_EQ(tight.code, 3);
  json = parse_json(tight.out);
  EXPECT_FALSE(json.at("fits").as_bool());
  int64_t room = json.at("tokens_that_fit").as_int();
  ASSERT_GT(room, 0) << tight.out;
  EXPECT_TRUE(contains(json.at("advice").as_string(), "--max-seq-len " + std::to_string(room))) << tight.out;
  EXPECT_EQ(run_ingot({"estimate", toy_model("llama"), "--max-num-tokens", "16", "--memory", "820k", "--max-seq-len",
                       std::to_string(room)})
                .code,
            0);
  ProgramRun never = run_ingot({"estimate", toy_model("llama"), "--memory", "10k"});
  EXPECT_EQ(never.code, 3);
  EXPECT_TRUE(contains(never.out, "no limit changes that")) << never.out;
}

TEST(Estimate, WhatItAdvisesFits) {
  for (const char* memory : {"22M", "24M", "26M", "28M", "33M"}) {
    std::vector<std::string> arguments = {"estimate", baker_7m(),     "--memory", memory,
                                          "--target", "cpu:portable", "--json"};
    ProgramRun run = run_ingot(arguments);
    ASSERT_EQ(run.code, 3) << memory << run.out;
    const std::string advice = parse_json(run.out).at("advice").as_string();
    bool advised = false;
    for (const std::string flag : {"--max-num-tokens", "--max-seq-len"})
      if (const size_t at = advice.find(flag + " "); at != std::string::npos) {
        const size_t value = at + flag.size() + 1;
        arguments.insert(arguments.end(), {flag, advice.substr(value, advice.find(' ', value) - value)});
        advised = true;
      }
    EXPECT_TRUE(advised) << memory << ": " << advice;
    EXPECT_EQ(run_ingot(arguments).code, 0) << memory << ": " << advice;
  }
  ProgramRun never = run_ingot({"estimate", baker_7m(), "--memory", "15M", "--target", "cpu:portable"});
  EXPECT_EQ(never.code, 3);
  EXPECT_TRUE(contains(never.out, "whatever --max-num-tokens is")) << never.out;
}

TEST(Estimate, TheWeightsAreThoseOfTheEngine) {
  Json json = result_of(run_ingot({"estimate", baker_7m(), "--memory", "8GiB", "--json", "--dtype", "float32"}));
  EXPECT_EQ(json.at("parameters").as_int(), 7344384);
  EXPECT_EQ(json.at("weight_bytes").as_int(), baker_engine().weight_bytes());
  EXPECT_EQ(json.at("kv_bytes_per_token").as_int(), 8 * 2 * 2 * 64 * 4)
      << "layers, keys and values, heads, size, float";
}

TEST(Estimate, AGpuThatIsNotHereCountsWithFiguresMeasuredEarlier) {
  const auto asked = [](std::vector<std::string> more) {
    more.insert(more.begin(), {"estimate", baker_7m(), "--json"});
    return run_ingot(more);
  };
  Json sized = result_of(asked({"--target", "cuda:sm_90a", "--device-memory", "1GiB"}));
  EXPECT_EQ(sized.at("memory_bytes").as_int(), int64_t{1} << 30);
  EXPECT_EQ(sized.at("target").as_string(), "cuda:sm_90a");
  EXPECT_EQ(asked({"--target", "cuda:sm_90a", "--device-memory", "10MiB"}).code, 3);
  Json unknown = result_of(asked({"--target", "cuda:sm_80", "--memory", "1GiB"}));
  if (unknown.at("ceilings").as_string() == "measured") GTEST_SKIP() << "that GPU is here";
  EXPECT_EQ(unknown.at("decode_tokens_per_second").as_double(), 0);
  ProgramRun without = asked({"--target", "cuda:sm_80"});
  EXPECT_EQ(without.code, 2);
  EXPECT_TRUE(contains(without.err, "--device-memory")) << without.err;
  if (sized.at("ceilings").as_string() == "measured") return;
  EXPECT_TRUE(contains(sized.at("ceilings").as_string(), "H200"));
  // The roofline: what a token reads is a little less than all weights, for the embedding is looked up.
  const double bytes = sized.at("read_bytes_per_second").as_double() / sized.at("decode_tokens_per_second").as_double();
  EXPECT_GT(bytes, 0.8 * sized.at("weight_bytes").as_double());
  EXPECT_LT(bytes, 1.5 * sized.at("weight_bytes").as_double());
  EXPECT_GT(sized.at("prefill_tokens").as_int(), 0);
  EXPECT_GT(sized.at("prefill_tokens_per_second").as_double(), sized.at("decode_tokens_per_second").as_double());
}

// Other than the clock on the wall, this does not count what else the machine does.
double cpu_seconds_of_children() {
  rusage usage;
  getrusage(RUSAGE_CHILDREN, &usage);
  auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + 1e-6 * time.tv_usec; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

TEST(Estimate, IsQuickForALargeModelFromItsConfigurationAlone) {
  std::filesystem::path config = shared_file("configs/llama-3.1-405b.json");
  if (!std::filesystem::exists(config)) GTEST_SKIP() << "there is no shared/configs/llama-3.1-405b.json";
  const double before = cpu_seconds_of_children();
  ProgramRun run = run_ingot({"estimate", config.string(), "--memory", "64GiB", "--json"});
  const double seconds = cpu_seconds_of_children() - before;
  EXPECT_EQ(run.code, 3) << run.err;
  EXPECT_EQ(parse_json(run.out).at("parameters").as_int(), 405853388800);
#ifdef NDEBUG
  EXPECT_LT(seconds, 1);
#else
  EXPECT_LT(seconds, 30);  // sanitizers take their time
#endif
}

}  // namespace
}  // namespace ingot
