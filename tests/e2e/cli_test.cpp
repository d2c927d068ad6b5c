// The command line: the JSON forms of what the verbs report, and how models and prompts are run.
#include "e2e/cli.h"

#include "base/thread_pool.h"
#include "device/target.h"
#include "ingot/generate.h"

namespace ingot {
namespace {

// --- JSON forms -----------------------------------------------------------------------------------------------------

TEST_F(Cli, BuildReports) {
  Json json = build_json({});
  EXPECT_EQ(keys(json), (Keys{"engine_dir", "seconds", "peak_host_bytes", "engine_bytes", "content_hash", "problems",
                              "cache_hits", "measured", "overrides", "remarks"}));
  EXPECT_EQ(json.at("engine_dir").as_string(), directory_ / "engine");
  EXPECT_EQ(json.at("engine_bytes").as_int(),
            static_cast<int64_t>(std::filesystem::file_size(directory_ / "engine/rank0.engine")));
  EXPECT_EQ(json.at("content_hash").as_string(), Engine::from_dir(directory_ / "engine").content_hash());
  for (const auto& [phase, seconds] : json.at("seconds").as_object()) EXPECT_GE(seconds.as_double(), 0) << phase;
  Json config = parse_json(read_text_file(directory_ / "engine/config.json"));
  EXPECT_EQ(keys(config), (Keys{"version", "content_hash", "pretrained_config", "build_config"}));
}

TEST_F(Cli, VerifyReports) {
  Json json = json_of(run_ingot({"verify", toy(), "--reference", reference(), "--json"}));
  EXPECT_EQ(keys(json), (Keys{"relative_error", "max_abs_error", "top1_agreement", "greedy_match_tokens",
                              "greedy_tokens", "passed"}));
  EXPECT_TRUE(json.at("passed").as_bool());
  EXPECT_EQ(json.at("top1_agreement").as_double(), 1);
  EXPECT_EQ(json.at("greedy_match_tokens"), json.at("greedy_tokens"));
  ProgramRun strict = run_ingot({"verify", toy(), "--reference", reference(), "--json", "--tolerance", "1e-12"});
  EXPECT_EQ(strict.code, 7);
  EXPECT_FALSE(parse_json(strict.out).at("passed").as_bool());
}

TEST_F(Cli, VerifyBuildsAModelIntoTheCacheAndSaysSo) {
  std::vector<std::string> arguments = {"verify",      toy_model("llama"), "--dtype", "float32",
                                        "--reference", reference(),        "--json"};
  ProgramInput input{.environment = {"INGOT_CACHE_DIR=" + (directory_ / "cache")}};
  ProgramRun first = run_ingot(arguments, input), second = run_ingot(arguments, input);
  EXPECT_TRUE(contains(first.err, "is a model: building it into " + (directory_ / "cache"))) << first.err;
  EXPECT_EQ(json_of(first), json_of(second));
  EXPECT_FALSE(contains(second.err, "building")) << second.err;
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "cache/engines"))
    std::filesystem::remove(entry.path() / "rank0.engine");
  EXPECT_EQ(json_of(run_ingot(arguments, input)), json_of(first)) << "everything in the cache may be deleted";
}

TEST_F(Cli, EvalPerplexityReports) {
  std::string text;
  for (int i = 0; i < 20; ++i) text += "The old man looked at the fire and said nothing. ";
  write_text_file(directory_ / "text", text);
  Json json =
      json_of(run_ingot({"eval", "perplexity", baker(), "--text", directory_ / "text", "--window", "64", "--json"}));
  EXPECT_EQ(keys(json), (Keys{"perplexity", "tokens", "windows", "nll"}));
  int64_t ids = static_cast<int64_t>(TextCodec::from_dir(baker()).encode(text, true).size());
  EXPECT_EQ(json.at("windows").as_int(), (ids - 1) / 64);
  EXPECT_EQ(json.at("tokens").as_int(), json.at("windows").as_int() * 64);
}

TEST_F(Cli, BenchReports) {
  Json json = json_of(run_ingot({"bench", toy(), "--prompt-tokens", "8", "--new-tokens", "2", "--batch-size", "1,2",
                                 "--repetitions", "1", "-o", "json"}));
  ASSERT_EQ(json.as_array().size(), 4u) << "prefill and decode of one and of two sequences";
  for (size_t i = 0; i < 4; ++i) {
    const Json& row = json.as_array()[i];
    EXPECT_EQ(keys(row), (Keys{"phase", "batch_size", "prompt_tokens", "new_tokens", "context", "dtype", "target",
                               "threads", "ms_mean", "ms_stddev", "tokens_per_second", "bytes_per_step", "flops",
                               "ceiling_name", "ceiling_bytes_per_second", "ceiling_flops", "ceiling_share"}));
    EXPECT_EQ(row.at("phase").as_string(), i % 2 ? "decode" : "prefill");
    EXPECT_EQ(row.at("batch_size").as_int(), i < 2 ? 1 : 2);
    EXPECT_EQ(row.at("dtype").as_string(), "float32");
    EXPECT_GT(row.at("ms_mean").as_double(), 0);
    EXPECT_GT(row.at("ceiling_share").as_double(), 0);
  }
}

TEST_F(Cli, BenchRefusesABatchThatNoStepHolds) {
  BuildConfig config = untuned("float32");
  config.max_seq_len = 64;
  const Engine engine = quick_engine(toy_model("llama"), config);
  auto bench = [&](const char* batch, const char* answer) {
    return run_ingot({"bench", engine.directory(), "--prompt-tokens", "40", "--new-tokens", answer, "--batch-size",
                      batch, "--repetitions", "1"});
  };
  ProgramRun large = bench("1,17", "2");
  EXPECT_EQ(large.code, 2);
  EXPECT_EQ(large.out, "");
  EXPECT_TRUE(contains(large.err, "the batch size is 17; the engine's max_batch_size is 16")) << large.err;
  // A step takes fewer tokens than 16 prompts have: the first sequences are at their end before the last ones begin.
  ProgramRun cut = bench("16", "23");
  EXPECT_EQ(cut.code, 2);
  EXPECT_TRUE(contains(cut.err, "fewer new tokens are needed")) << cut.err;
}

TEST_F(Cli, RunReports) {
  Json json = json_of(run_ingot({"run", baker(), "The old man", "-n", "8", "--ignore-eos", "--json"}));
  EXPECT_EQ(keys(json), (Keys{"text", "ids", "prompt_tokens", "new_tokens", "finish_reason", "ms_first_token",
                              "tokens_per_second"}));
  EXPECT_EQ(json.at("new_tokens").as_int(), 8);
  EXPECT_EQ(json.at("ids").as_array().size(), 8u);
  EXPECT_EQ(json.at("finish_reason").as_string(), "length");
  json = json_of(run_ingot({"run", baker(), "The old man", "-n", "3", "--logprobs", "0", "--json"}));
  EXPECT_EQ(json.at("logprobs").as_array().size(), 3u);
}

TEST_F(Cli, TokenizeAndDetokenizeLines) {
  std::string lines = "{\"text\": \"The old man\"}\n{\"text\": \"\"}\n{\"text\": \"a\\nb\\u00e9\"}";
  ProgramRun run = run_ingot({"tokenize", baker(), "--json"}, {.text = lines});
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(std::count(run.out.begin(), run.out.end(), '\n'), 3);
  EXPECT_FALSE(contains(run.out, "\r"));
  Json first = parse_json(run.out.substr(0, run.out.find('\n')));
  EXPECT_EQ(keys(first), (Keys{"ids", "ids_no_special"}));
  EXPECT_EQ(first.at("ids").as_array().size(), first.at("ids_no_special").as_array().size() + 1);
  std::string back = "{\"ids\": " + first.at("ids").dump() + "}\n{\"ids\": []}\n";
  ProgramRun decoded = run_ingot({"detokenize", baker(), "--json"}, {.text = back});
  EXPECT_EQ(decoded.out, "{\"text\":\"The old man\"}\n{\"text\":\"\"}\n");
  ProgramRun wrong = run_ingot({"tokenize", baker(), "--json"}, {.text = lines + "\n{\"txt\": 1}\n"});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_TRUE(contains(wrong.err, "line 4") && contains(wrong.err, "\"text\"")) << wrong.err;
  EXPECT_EQ(run_ingot({"detokenize", baker(), "--json"}, {.text = "{\"ids\": [-4]}\n"}).code, 2);
}

TEST_F(Cli, InspectEstimateAndDevicesReport) {
  Json engine = json_of(run_ingot({"inspect", toy(), "--json", "--layers", "--tactics", "--memory"}));
  EXPECT_EQ(engine.at("kind").as_string(), "engine");
  for (const char* key : {"content_hash", "programs", "layers", "tactics", "memory"})
    EXPECT_TRUE(engine.find(key)) << key;
  Json checkpoint = json_of(run_ingot({"inspect", toy_model("llama"), "--json", "--graph"}));
  EXPECT_EQ(checkpoint.at("kind").as_string(), "checkpoint");
  EXPECT_TRUE(contains(checkpoint.at("graph").as_string(), "rms_norm(")) << checkpoint.at("graph").as_string();
  EXPECT_EQ(json_of(run_ingot({"inspect", reference(), "--json"})).at("kind").as_string(), "safetensors");
  Json devices = json_of(run_ingot({"devices", "--json"}));
  EXPECT_EQ(keys(devices), (Keys{"cpu", "gpus", "libraries"}));
  for (const Json& library : devices.at("libraries").as_array())
    EXPECT_TRUE(library.find(library.at("found").as_bool() ? "version" : "missing")) << library.dump();
  for (const Json& gpu : devices.at("gpus").as_array()) EXPECT_GT(gpu.at("multiprocessors").as_int(), 0);
  EXPECT_EQ(devices.at("gpus").as_array().empty(), devices.at("libraries").as_array().at(0).find("missing") != nullptr);
  EXPECT_EQ(run_ingot({"devices"}).code, 0);
  EXPECT_EQ(run_ingot({"inspect", toy(), "--tactics"}).code, 0);
  EXPECT_EQ(run_ingot({"inspect", directory_ / "nothing"}).code, 2);
}

TEST_F(Cli, InspectTellsWhatATimingCacheHolds) {
  write_text_file(directory_ / "times",
                  "# ingot timing cache 1\n"
                  "A/avx2/1 threads | slice f32[4] {begin = 1} | cpu.slice@1 rows | 2us\n"
                  "A/avx2/1 threads | slice f32[8] {begin = 1} | cpu.slice@1 rows | 3us\n"
                  "B/avx512/2 threads | slice f32[4] {begin = 1} | cpu.slice@1 rows | 2us\n"
                  "B/avx512/2 threads | slice f32[4] {begin = 1} | cpu.other@2 | >9us\n");
  const Json json = json_of(run_ingot({"inspect", directory_ / "times", "--json"}));
  EXPECT_EQ(json.at("entries").as_int(), 4);
  EXPECT_EQ(json.at("devices").dump(),
            "[{\"device\":\"A/avx2/1 threads\",\"problems\":2,\"entries\":2},"
            "{\"device\":\"B/avx512/2 threads\",\"problems\":1,\"entries\":2}]");
  EXPECT_EQ(json.at("sources").dump(),
            "[{\"source\":\"cpu.other@2\",\"problems\":1,\"entries\":1},"
            "{\"source\":\"cpu.slice@1\",\"problems\":2,\"entries\":3}]");
  EXPECT_TRUE(contains(run_ingot({"inspect", directory_ / "times"}).out, "damaged_lines: none"));
}

TEST_F(Cli, InspectRefusesWhatThereIsNotToShow) {
  for (const auto& [path, flag] :
       {std::pair{toy(), "--graph"}, {toy_model("llama"), "--tactics"}, {reference(), "--layers"}}) {
    const ProgramRun run = run_ingot({"inspect", path, flag});
    EXPECT_EQ(run.code, 2) << flag;
    EXPECT_TRUE(contains(run.err, std::string("has no ") + (flag + 2) + " to show")) << run.err;
  }
}

TEST_F(Cli, ResultsGoToStandardOutputAndLogsToStandardError) {
  ProgramRun run = run_ingot(
      {"-v", "build", toy_model("llama"), "-O0", "--json", "--progress", "plain", "-o", directory_ / "engine"});
  EXPECT_NO_THROW(parse_json(run.out)) << run.out;
  EXPECT_TRUE(contains(run.err, "write: done in")) << run.err;
  EXPECT_TRUE(contains(run.err, "info: passes")) << run.err;
  EXPECT_TRUE(contains(run.err, "info: settings: {\"max_batch_size\":16,")) << run.err;
  EXPECT_TRUE(contains(run.err, "info: chosen for matmul ")) << run.err;
  // Also of an engine that this machine cannot run.
  EXPECT_EQ(run_ingot({"-v", "build", toy_model("llama"), "-O0", "--target", "cpu:amx", "-o", directory_ / "amx"}).code,
            0);
  run = run_ingot({"build", toy_model("llama"), "-O0", "-o", directory_ / "engine"});
  EXPECT_EQ(run.err, "");
}

TEST_F(Cli, TheDebugLogTellsEveryStep) {
  const std::vector<std::string> arguments = {"run", baker(), "The old man", "-n", "2"};
  const ProgramRun quiet = run_ingot(arguments), told = run_ingot(arguments, {.environment = {"INGOT_LOG=debug"}});
  EXPECT_EQ(told.out, quiet.out);
  EXPECT_EQ(quiet.err, "");
  EXPECT_TRUE(contains(told.err, "debug: program 0 (main, tokens 1..8)\n")) << told.err;
  EXPECT_TRUE(contains(told.err, " (layers.0.mlp.down_proj): ")) << told.err;
}

TEST_F(Cli, AnOutputThatCannotBeWrittenIsAnError) {
  ProgramRun run = run_ingot({"inspect", toy(), "--json"}, {.output = "/dev/full"});
  EXPECT_EQ(run.code, 1);
  EXPECT_TRUE(contains(run.err, "cannot write to standard output: No space left on device")) << run.err;
}

// --- running --------------------------------------------------------------------------------------------------------

TEST_F(Cli, RunReadsThePromptFromAPipeAndWritesTheText) {
  ProgramRun piped = run_ingot({"run", baker(), "-n", "12"}, {.text = "The old man"});
  ProgramRun given = run_ingot({"run", baker(), "The old man", "-n", "12"});
  EXPECT_EQ(piped.code, 0) << piped.err;
  EXPECT_EQ(piped.out, given.out);
  EXPECT_EQ(piped.err, "");
  Json json = json_of(run_ingot({"run", baker(), "The old man", "-n", "12", "--json"}));
  EXPECT_EQ(piped.out, json.at("text").as_string() + "\n");
}

TEST_F(Cli, MoreThreadsThanCpusGetAWarning) {
  auto err_of = [&](int threads) {
    return run_ingot({"run", baker(), "The old man", "-n", "1", "--threads", std::to_string(threads)}).err;
  };
  EXPECT_TRUE(contains(err_of(usable_cpus() + 1), "usable CPUs; one thread per CPU is faster"));
  EXPECT_EQ(err_of(usable_cpus()), "");
}

TEST_F(Cli, RunDropsOneLineEndOfAPipedPrompt) {
  auto answer = [](std::vector<std::string> prompt, const std::string& piped) {
    prompt.insert(prompt.begin(), {"run", baker(), "-n", "8", "--json"});
    return json_of(run_ingot(prompt, {.text = piped}));
  };
  for (const char* prompt : {"The old man", "The old man\n", "The\nold man"}) {
    Json piped = answer({}, std::string(prompt) + "\n"), given = answer({prompt}, "");
    EXPECT_EQ(piped.at("prompt_tokens"), given.at("prompt_tokens")) << prompt;
    EXPECT_EQ(piped.at("ids"), given.at("ids")) << prompt;
  }
  EXPECT_LT(answer({"The old man"}, "").at("prompt_tokens").as_int(),
            answer({"The old man\n"}, "").at("prompt_tokens").as_int());
  ProgramRun empty = run_ingot({"run", baker()}, {.text = "\n"});
  EXPECT_EQ(empty.code, 2);
  EXPECT_TRUE(contains(empty.err, "the prompt is empty")) << empty.err;
}

TEST_F(Cli, AnInputThatCannotBeReadIsAnError) {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"run", baker()}, {"tokenize", baker()}, {"tokenize", baker(), "--json"}}) {
    ProgramRun run = run_ingot(words, {.input = "/tmp"});
    EXPECT_EQ(run.code, 1) << words[0];
    EXPECT_TRUE(contains(run.err, "cannot read standard input: Is a directory")) << run.err;
  }
}

TEST_F(Cli, RunTakesStopStringsAnywhere) {
  ProgramRun behind = run_ingot({"run", baker(), "The old man", "-n", "30", "--stop", "was", "--stop", "and"});
  ProgramRun before = run_ingot({"run", "--stop", "was", "--stop", "and", baker(), "The old man", "-n", "30"});
  EXPECT_EQ(before.code, 0) << before.err;
  EXPECT_EQ(before.out, behind.out);
  EXPECT_FALSE(contains(behind.out, "was") || contains(behind.out, "and")) << behind.out;
}

// A cache that machines share, or a CPU that is masked: each gets the engine for it, and keeps it.
TEST_F(Cli, EveryTargetHasACachedEngineOfItsOwn) {
  ProgramInput input{.environment = {"INGOT_CACHE_DIR=" + (directory_ / "cache")}};
  auto err_of = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"verify",  toy_model("llama"), "--dtype",
                                          "float32", "--reference",      reference()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    ProgramRun run = run_ingot(arguments, input);
    EXPECT_EQ(run.code, 0) << run.err;
    return run.err;
  };
  EXPECT_TRUE(contains(err_of({"--cpu-mask", "portable"}), "is a model: building it"));
  EXPECT_EQ(err_of({"--target", "cpu:portable"}), "") << "what cpu means under the mask";
  EXPECT_EQ(err_of({"--cpu-mask", "portable"}), "");
  if (cpu_features().level < CpuLevel::kAvx2) GTEST_SKIP() << "this machine has no AVX2";
  EXPECT_TRUE(contains(err_of({"--cpu-mask", "avx2"}), "is a model: building it"));
  EXPECT_EQ(err_of({"--cpu-mask", "portable"}), "");
  std::vector<std::string> targets;
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "cache/engines"))
    targets.push_back(Engine::from_dir(entry.path()).target());
  std::sort(targets.begin(), targets.end());
  EXPECT_EQ(targets, (std::vector<std::string>{"cpu:avx2", "cpu:portable"}));
}

TEST_F(Cli, RunBuildsAModelFirst) {
  // With a short context there is less to measure.
  std::string model = copy_of_model(baker_7m(), directory_);
  Json config = parse_json(read_text_file(model + "/config.json"));
  config.set("max_position_embeddings", 16);
  write_text_file(model + "/config.json", config.dump(2));
  ProgramRun run = run_ingot({"run", model, "The old man", "-n", "2", "--threads", "1"},
                             {.environment = {"INGOT_CACHE_DIR=" + (directory_ / "cache")}});
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_TRUE(contains(run.err, "building it into")) << run.err;
  EXPECT_TRUE(std::filesystem::exists(directory_ / "cache/timings.txt"));
}

}  // namespace
}  // namespace ingot
