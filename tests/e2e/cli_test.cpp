// The command line: its JSON forms, spellings, configuration files and help.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/json.h"
#include "base/thread_pool.h"
#include "device/target.h"
#include "e2e/models.h"
#include "e2e/run_ingot.h"
#include "ingot/generate.h"

namespace ingot {
namespace {

std::vector<std::string> keys(const Json& object) {
  std::vector<std::string> names;
  for (const auto& [name, value] : object.as_object()) names.push_back(name);
  return names;
}

Json json_of(const ProgramRun& run) {
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_TRUE(run.out.ends_with("\n"));
  return run.code == 0 ? parse_json(run.out) : Json::object();
}

// An engine directory of baker-7m, of a toy model, and their models.
class Cli : public testing::Test {
 protected:
  static std::string baker() { return baker_engine().directory(); }
  static std::string toy() {
    static const Engine engine = quick_engine(toy_model("llama"));
    return engine.directory();
  }
  static std::string reference() { return toy_model("llama") + "/golden.safetensors"; }

  Json build_json(std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"build", toy_model("llama"), "-O0", "--json"});
    if (std::find(flags.begin(), flags.end(), "-o") == flags.end())
      flags.insert(flags.end(), {"-o", directory_ / "engine"});
    return json_of(run_ingot(flags));
  }
  Json build_config() const { return parse_json(read_text_file(directory_ / "engine/config.json")).at("build_config"); }

  TemporaryDirectory directory_;
};

using Keys = std::vector<std::string>;

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

TEST_F(Cli, AnOutputThatCannotBeWrittenIsAnError) {
  ProgramRun run = run_ingot({"inspect", toy(), "--json"}, {.output = "/dev/full"});
  EXPECT_EQ(run.code, 1);
  EXPECT_TRUE(contains(run.err, "cannot write to standard output: No space left on device")) << run.err;
}

// --- spellings ------------------------------------------------------------------------------------------------------

TEST_F(Cli, UnderscoresAndUnitsAreAccepted) {
  build_json({"--output_dir", directory_ / "engine", "--max_batch_size", "4", "--max_num_tokens=1k", "--max-seq-len",
              "0.25k", "--kv_cache_type", "paged", "--use_paged_context_fmha", "enable", "-o", directory_ / "engine"});
  EXPECT_EQ(build_config().at("max_batch_size").as_int(), 4);
  EXPECT_EQ(build_config().at("max_num_tokens").as_int(), 1024);
  EXPECT_EQ(build_config().at("max_seq_len").as_int(), 256);
  Json estimate = json_of(run_ingot({"estimate", toy_model("llama"), "--memory", "4GiB", "--json"}));
  EXPECT_EQ(estimate.at("memory_bytes").as_int(), int64_t{4} << 30);
  EXPECT_EQ(
      json_of(run_ingot({"estimate", toy_model("llama"), "--memory", "2GB", "--json"})).at("memory_bytes").as_int(),
      2000000000);
  for (const char* wrong : {"8q", "k", "-", "1.5", "9999999999999G"}) {
    ProgramRun run = run_ingot({"estimate", toy_model("llama"), "--max-batch-size", wrong});
    EXPECT_EQ(run.code, 2) << wrong;
    EXPECT_TRUE(contains(run.err, "--max-batch-size")) << run.err;
  }
}

TEST_F(Cli, NumbersAreExact) {
  auto answer = [&](const char* seed, const char* top_k) {
    const ProgramRun run = run_ingot(
        {"run", baker(), "The old man", "-n", "12", "--temperature", "1.5", "--seed", seed, "--top-k", top_k});
    EXPECT_EQ(run.code, 0) << run.err;
    return run.out;
  };
  EXPECT_NE(answer("9007199254740993", "0"), answer("9007199254740992", "0"));
  EXPECT_NE(answer("18446744073709551615", "0"), answer("0", "0"));
  EXPECT_EQ(answer("3", "4294967297"), answer("3", "0"));
  auto memory = [&](const char* text) {
    return json_of(run_ingot({"estimate", toy_model("llama"), "--memory", text, "--json"})).at("memory_bytes").as_int();
  };
  EXPECT_EQ(memory("9007199254740993"), 9007199254740993);
  EXPECT_EQ(memory("1.5G"), 3 * (int64_t{1} << 29));
}

TEST_F(Cli, AnEngineIsNotTakenForAnotherOne) {
  const std::vector<std::vector<std::string>> verbs = {{"run", toy(), "x", "-n", "1"},
                                                       {"bench", toy()},
                                                       {"eval", "perplexity", toy(), "--text", "t"},
                                                       {"verify", toy(), "--reference", reference()}};
  write_text_file(directory_ / "t", "a text");
  for (std::vector<std::string> verb : verbs) {
    std::replace(verb.begin(), verb.end(), std::string("t"), directory_ / "t");
    for (const auto& [flag, value] : {std::pair{"--dtype", "bfloat16"}, {"--target", "cuda"}}) {
      std::vector<std::string> arguments = verb;
      arguments.insert(arguments.end(), {flag, value});
      const ProgramRun run = run_ingot(arguments);
      EXPECT_EQ(run.code, 2) << verb[0];
      EXPECT_TRUE(contains(run.err, std::string(flag) + " is " + value) && contains(run.err, "is an engine"))
          << run.err;
    }
  }
  EXPECT_EQ(run_ingot({"verify", toy(), "--reference", reference(), "--dtype", "float32", "--target", "cpu"}).code, 0);
}

TEST_F(Cli, OfFlagsGivenTwiceTheLastCounts) {
  build_json({"--max-batch-size", "4", "--max-batch-size", "8", "-O", "0"});
  EXPECT_EQ(build_config().at("max_batch_size").as_int(), 8);
  EXPECT_EQ(run_ingot({"run", baker(), "The", "-n", "1", "--temperature", "1", "--temperature", "0"}).code, 0);
}

TEST_F(Cli, AConfigurationFileGivesFlagsAndTheCommandLineWins) {
  write_text_file(
      directory_ / "flags.json",
      "{\"max_batch_size\": 4, \"max-seq-len\": \"128\", \"max_num_tokens\": \"32\", \"dtype\": \"float32\", "
      "\"disable\": [\"merge_qkv\", \"dead_code\"]}");
  build_json({"--config", directory_ / "flags.json", "--max-seq-len", "64"});
  Json config = build_config();
  EXPECT_EQ(config.at("max_batch_size").as_int(), 4);
  EXPECT_EQ(config.at("max_seq_len").as_int(), 64);
  EXPECT_EQ(config.at("max_num_tokens").as_int(), 32);
  EXPECT_EQ(config.at("dtype").as_string(), "float32");
  EXPECT_EQ(config.at("disable").as_array().size(), 2u);
}

TEST_F(Cli, AConfigurationFileServesEveryVerb) {
  write_text_file(directory_ / "run.json", "{\"max-tokens\": 9, \"temperature\": 0.5, \"json\": true}");
  Json json = json_of(run_ingot({"--cpu-mask", "avx512", "run", baker(), "The old man",
                                 "--config=" + (directory_ / "run.json"), "--max-tokens", "3"}));
  EXPECT_EQ(json.at("new_tokens").as_int(), 3);
  write_text_file(directory_ / "eval.json",
                  "{\"window\": 4, \"text\": \"" + directory_ / "text" + "\", \"json\": true}");
  write_text_file(directory_ / "text", "The old man looked at me.");
  EXPECT_GT(
      json_of(run_ingot({"eval", "perplexity", baker(), "--config", directory_ / "eval.json"})).at("windows").as_int(),
      0);
}

TEST_F(Cli, ASavedConfigurationIsAConfigurationFile) {
  BuildConfig config;
  config.max_batch_size = 3;
  config.opt_level = 0;
  config.disable = {"merge_qkv"};
  save_config(config, directory_ / "saved.json");
  json_of(run_ingot(
      {"build", toy_model("llama"), "--config", directory_ / "saved.json", "--json", "-o", directory_ / "engine"}));
  EXPECT_EQ(build_config().at("max_batch_size").as_int(), 3);
  EXPECT_EQ(build_config().at("disable").as_array().size(), 1u);
  EXPECT_EQ(load_config(directory_ / "saved.json").max_batch_size, 3);
}

TEST_F(Cli, AListInAConfigurationFileIsOneFlagForEachElement) {
  auto run_with = [&](const std::string& config) {
    write_text_file(directory_ / "run.json", config);
    return run_ingot({"run", baker(), "The old man", "-n", "30", "--config", directory_ / "run.json"});
  };
  const std::vector<std::string> flags = {"run", baker(), "The old man", "-n", "30", "--stop", "and", "--stop", "a,b"};
  const std::string wanted = run_ingot(flags).out;
  EXPECT_EQ(run_with("{\"stop\": [\"and\", \"a,b\"]}").out, wanted);
  EXPECT_NE(run_with("{}").out, wanted);
  const Json plain = json_of(run_ingot({"run", baker(), "The old man", "-n", "4", "--ignore-eos", "--json"}));
  const std::string id = plain.at("ids").as_array()[1].dump();
  const Json stopped = json_of(run_with("{\"stop_id\": [4095, " + id + "], \"json\": true}"));
  EXPECT_EQ(stopped.at("new_tokens").as_int(), 2) << stopped.dump();
  // A list of one flag stays one value.
  write_text_file(directory_ / "bench.json", "{\"batch_size\": [1, 2], \"new_tokens\": 1, \"prompt_tokens\": 4}");
  Json rows =
      json_of(run_ingot({"bench", toy(), "--config", directory_ / "bench.json", "--repetitions", "1", "--json"}));
  EXPECT_EQ(rows.as_array().size(), 4u);
}

TEST_F(Cli, WrongConfigurationFilesAreRefused) {
  write_text_file(directory_ / "flags.json", "{\"max_bach_size\": 4}");
  ProgramRun run =
      run_ingot({"build", toy_model("llama"), "--config", directory_ / "flags.json", "-o", directory_ / "e"});
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(contains(run.err, "flags.json: key \"max_bach_size\"")) << run.err;
  EXPECT_TRUE(contains(run.err, "the nearest is \"max-batch-size\"")) << run.err;
  write_text_file(directory_ / "flags.json", "{\"max_batch_size\": ");
  run = run_ingot({"build", toy_model("llama"), "--config", directory_ / "flags.json", "-o", directory_ / "e"});
  EXPECT_NE(run.code, 0);
  EXPECT_TRUE(contains(run.err, "flags.json")) << run.err;
  EXPECT_NE(run_ingot({"build", toy_model("llama"), "--config", directory_ / "none", "-o", directory_ / "e"}).code, 0);
}

TEST_F(Cli, TheEnvironmentSetsThreadsAndLog) {
  ProgramRun run = run_ingot({"build", toy_model("llama"), "-O0", "-o", directory_ / "engine"},
                             {.environment = {"INGOT_THREADS=1", "INGOT_LOG=info"}});
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_TRUE(contains(run.err, "info: ")) << run.err;
  EXPECT_EQ(build_config().at("threads").as_int(), 1);
  for (const char* wrong : {"INGOT_THREADS=many", "INGOT_THREADS=-5", "INGOT_THREADS=1025", "INGOT_LOG=bogus"})
    EXPECT_EQ(run_ingot({"devices"}, {.environment = {wrong}}).code, 2) << wrong;
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

// --- help -----------------------------------------------------------------------------------------------------------

TEST_F(Cli, EveryVerbHasHelpThatNamesItsFlags) {
  struct Verb {
    Keys words, flags;
  };
  const Verb verbs[] = {
      {{"build"},
       {"--output-dir",     "--target",       "--dtype",   "--max-batch-size", "--max-seq-len",    "--max-input-len",
        "--max-num-tokens", "--timing-cache", "-O0",       "--frozen",         "--disable",        "--random-weights",
        "--seed",           "--max-host-mem", "--dry-run", "--strict",         "--tactic-sources", "--threads",
        "--json",           "--progress",     "--config"}},
      {{"estimate"}, {"--memory", "--max-batch-size", "--dtype", "--json"}},
      {{"run"},
       {"--temperature", "--top-k", "--top-p", "--min-p", "--repetition-penalty", "--presence-penalty",
        "--frequency-penalty", "--seed", "--max-tokens", "--min-tokens", "--logprobs", "--stop", "--stop-id",
        "--ignore-eos", "--kv-cache-memory", "--threads", "--json"}},
      {{"bench"}, {"--prompt-tokens", "--new-tokens", "--batch-size", "--output", "--threads", "--repetitions"}},
      {{"eval", "perplexity"}, {"--text", "--window", "--json"}},
      {{"verify"}, {"--reference", "--tolerance", "--dtype", "--json"}},
      {{"inspect"}, {"--layers", "--tactics", "--memory", "--graph", "--json"}},
      {{"tokenize"}, {"--json"}},
      {{"detokenize"}, {"--json"}},
      {{"devices"}, {"--json"}},
  };
  ProgramRun all = run_ingot({"--help"});
  EXPECT_EQ(all.code, 0);
  for (const Verb& verb : verbs) {
    SCOPED_TRACE(verb.words.back());
    EXPECT_TRUE(contains(all.out, verb.words[0]));
    Keys arguments = verb.words;
    arguments.push_back("--help");
    ProgramRun help = run_ingot(arguments);
    EXPECT_EQ(help.code, 0);
    EXPECT_EQ(help.err, "");
    for (const std::string& flag : verb.flags) EXPECT_TRUE(contains(help.out, flag)) << flag;
    EXPECT_TRUE(contains(help.out, "Exit codes")) << help.out;
  }
  EXPECT_EQ(run_ingot({"--version"}).code, 0);
  EXPECT_EQ(run_ingot({"help"}).out, all.out);
  EXPECT_EQ(run_ingot({"help", "eval", "perplexity"}).out, run_ingot({"eval", "perplexity", "--help"}).out);
  for (const char* verb : {"build", "estimate", "run", "bench", "verify"})
    EXPECT_TRUE(contains(run_ingot({verb, "--help"}).out, "cuda:sm_80")) << verb;
}

TEST_F(Cli, WrongUsageExitsWith2AndSaysWhat) {
  struct Wrong {
    Keys arguments;
    std::string said;
  };
  const Wrong wrongs[] = {
      {{}, "a verb is needed: build"},
      {{"biuld", "x"}, "there is no verb \"biuld\""},
      {{"build"}, "model"},
      {{"build", toy_model("llama"), "--banana"}, "has no flag \"--banana\"; the nearest is"},
      {{"build", toy_model("llama"), "--max-batch-siz", "4"}, "the nearest is \"--max-batch-size\""},
      {{"run", baker(), "two", "words"}, "`ingot run` takes no further argument, found \"words\""},
      {{"run", baker(), "x", "--threads", "-1"}, "--threads is -1, needed 0 to 1024"},
      {{"run", baker(), "x", "--threads", "4294967298"}, "needed 0 to 1024"},
      {{"bench", baker(), "--threads", "20000"}, "needed 0 to 1024"},
      {{"eval", "perplexity", baker(), "--text", "x", "--threads", "-1"}, "needed 0 to 1024"},
      {{"verify", toy(), "--reference", reference(), "--threads", "1025"}, "needed 0 to 1024"},
      {{"run", baker(), "x", "-n", "0"}, "--max-tokens is 0, needed 1 or more"},
      {{"run", baker(), "x", "--seed", "18446744073709551616"}, "--seed"},
      {{"run", baker(), "x", "--progress", "bogus"}, "--progress is \"bogus\""},
      {{"run", baker(), "x", "--kv-cache-memory", "0"}, "--kv-cache-memory"},
      {{"run", baker(), "x", "--kv-cache-memory", "0.0"}, "--kv-cache-memory"},
      {{"estimate", toy_model("llama"), "--memory", "-5"}, "--memory"},
      {{"estimate", toy_model("llama"), "--memory", "0"}, "--memory"},
      {{"build", toy_model("llama"), "-o", "e", "--kv-cache-type", "bogus"}, "\"bogus\""},
      {{"verify", toy(), "--reference", reference(), "--tolerance", "-1"}, "needed a number above 0"},
      {{"verify", toy(), "--reference", reference(), "--tolerance", "0"}, "needed a number above 0"},
      {{"verify", toy(), "--reference", reference(), "--tolerance", "nan"}, "needed a number above 0"},
      {{"build", toy_model("llama")}, "-o ENGINE_DIR"},
      {{"build", toy_model("llama"), "-o", "e", "-O9"}, "opt_level"},
      {{"build", toy_model("llama"), "-o", "e", "--dtype", "float12"}, "float12"},
      {{"build", toy_model("llama"), "-o", "e", "--max-batch-size", "0"}, "max_batch_size"},
      {{"build", toy_model("llama"), "-o", "e", "-O0", "--progress", "fancy"}, "fancy"},
      {{"build", toy_model("llama"), "-o", "e", "--tactic-sources", "cpu.slice"}, "begins with neither + nor -"},
      {{"build", toy_model("llama"), "-o", "e", "--tactic-sources", "-cpu.slide"}, "the nearest is \"cpu.slice\""},
      {{"run", baker(), "x", "--temperature", "-1"}, "temperature"},
      {{"run", baker(), "x", "--temperature", "warm"}, "warm"},
      {{"eval"}, "subcommand"},
      {{"eval", "perplexity", baker()}, "--text"},
      {{"verify", toy()}, "--reference"},
      {{"--cpu-mask", "avx3", "devices"}, "avx3"},
  };
  for (const Wrong& wrong : wrongs) {
    ProgramRun run = run_ingot(wrong.arguments);
    EXPECT_EQ(run.code, 2) << wrong.said;
    EXPECT_TRUE(contains(run.err, wrong.said)) << wrong.said << " is not in: " << run.err;
    EXPECT_TRUE(run.err.starts_with("ingot: ")) << run.err;
    EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
    EXPECT_EQ(run.out, "") << wrong.said;
  }
}

}  // namespace
}  // namespace ingot
