// The command line: how flags and numbers may be spelled, configuration files, environment, help, wrong usage.
#include "e2e/cli.h"

namespace ingot {
namespace {

class CliArguments : public Cli {};

// --- spellings ------------------------------------------------------------------------------------------------------

TEST_F(CliArguments, UnderscoresAndUnitsAreAccepted) {
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

TEST_F(CliArguments, NumbersAreExact) {
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

TEST_F(CliArguments, AnEngineIsNotTakenForAnotherOne) {
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
  EXPECT_EQ(run_ingot({"verify", toy(), "--reference", reference(), "--dtype", "fp32"}).code, 0);
}

TEST_F(CliArguments, OfFlagsGivenTwiceTheLastCounts) {
  build_json({"--max-batch-size", "4", "--max-batch-size", "8", "-O", "0"});
  EXPECT_EQ(build_config().at("max_batch_size").as_int(), 8);
  EXPECT_EQ(run_ingot({"run", baker(), "The", "-n", "1", "--temperature", "1", "--temperature", "0"}).code, 0);
}

TEST_F(CliArguments, AConfigurationFileGivesFlagsAndTheCommandLineWins) {
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

TEST_F(CliArguments, AConfigurationFileServesEveryVerb) {
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

TEST_F(CliArguments, ASavedConfigurationIsAConfigurationFile) {
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

TEST_F(CliArguments, AListInAConfigurationFileIsOneFlagForEachElement) {
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

TEST_F(CliArguments, WrongConfigurationFilesAreRefused) {
  write_text_file(directory_ / "flags.json", "{\"max_bach_size\": 4}");
  ProgramRun run =
      run_ingot({"build", toy_model("llama"), "--config", directory_ / "flags.json", "-o", directory_ / "e"});
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(contains(run.err, "flags.json: key \"max_bach_size\"")) << run.err;
  EXPECT_TRUE(contains(run.err, "the nearest is \"max-batch-size\"")) << run.err;
  for (const char* value : {"{\"a\": 1}", "[[\"a\"]]"}) {
    write_text_file(directory_ / "flags.json", std::string("{\"stop\": ") + value + "}");
    run = run_ingot({"run", baker(), "The", "--config", directory_ / "flags.json"});
    EXPECT_EQ(run.code, 2) << value;
    EXPECT_TRUE(contains(run.err, "flags.json: key \"stop\": found ")) << run.err;
  }
  write_text_file(directory_ / "flags.json", "{\"max_batch_size\": ");
  run = run_ingot({"build", toy_model("llama"), "--config", directory_ / "flags.json", "-o", directory_ / "e"});
  EXPECT_NE(run.code, 0);
  EXPECT_TRUE(contains(run.err, "flags.json")) << run.err;
  EXPECT_NE(run_ingot({"build", toy_model("llama"), "--config", directory_ / "none", "-o", directory_ / "e"}).code, 0);
}

TEST_F(CliArguments, TheEnvironmentSetsThreadsAndLog) {
  ProgramRun run = run_ingot({"build", toy_model("llama"), "-O0", "-o", directory_ / "engine"},
                             {.environment = {"INGOT_THREADS=1", "INGOT_LOG=info"}});
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_TRUE(contains(run.err, "info: ")) << run.err;
  EXPECT_EQ(build_config().at("threads").as_int(), 1);
  for (const char* wrong : {"INGOT_THREADS=many", "INGOT_THREADS=-5", "INGOT_THREADS=1025", "INGOT_LOG=bogus"})
    EXPECT_EQ(run_ingot({"devices"}, {.environment = {wrong}}).code, 2) << wrong;
}

// --- help -----------------------------------------------------------------------------------------------------------

TEST_F(CliArguments, EveryVerbHasHelpThatNamesItsFlags) {
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

TEST_F(CliArguments, WrongUsageExitsWith2AndSaysWhat) {
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
      {{"estimate", "none/config.json"}, "none/config.json does not exist"},
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
      {{"run", baker(), "x", "--top-p", "1.1"}, "top_p is 1.1;"},
      {{"build", toy_model("llama"), "-o", "e", "--max-seq-len", "2G"}, "needed 0 to 2147483647"},
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
