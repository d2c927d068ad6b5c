// What is wrong with an input is said with the documented exit code, and nothing partial stays behind.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/json.h"
#include "e2e/models.h"
#include "e2e/run_ingot.h"

namespace ingot {
namespace {

// --- checkpoints ----------------------------------------------------------------------------------------------------

struct Safetensors {
  Json header;
  std::string data;

  static Safetensors read(const std::string& path) {
    std::string file = read_text_file(path);
    uint64_t size = 0;
    std::memcpy(&size, file.data(), sizeof size);
    return {parse_json(file.substr(8, size)), file.substr(8 + size)};
  }
  static std::string around(const std::string& header, const std::string& data) {
    uint64_t size = header.size();
    std::string file(sizeof size, '\0');
    std::memcpy(file.data(), &size, sizeof size);
    return file + header + data;
  }
  std::string file() const { return around(header.dump(), data); }
  Json& entry(const std::string& name) {
    for (auto& [key, value] : header.as_object())
      if (key == name) return value;
    throw std::runtime_error("the toy model has no " + name);
  }
};

Json pair(int64_t a, int64_t b) {
  Json json = Json::array();
  json.push(a);
  json.push(b);
  return json;
}

class BadCheckpoint : public testing::Test {
 protected:
  static constexpr const char* kName = "model.norm.weight";

  // Builds and expects a refusal that says each of `parts` and leaves nothing.
  void expect_refused(int code, const std::vector<std::string>& parts, std::vector<std::string> flags = {"-O0"}) {
    std::vector<std::string> before = listing(directory_.path());
    flags.insert(flags.begin(), {"build", model_, "-o", directory_ / "engine"});
    ProgramRun run = run_ingot(flags);
    EXPECT_EQ(run.code, code) << run.err;
    EXPECT_TRUE(run.err.starts_with("ingot: ")) << run.err;
    for (const std::string& part : parts) EXPECT_TRUE(contains(run.err, part)) << part << " is not in: " << run.err;
    EXPECT_EQ(listing(directory_.path()), before);
  }
  void write_weights(const std::string& bytes) { write_text_file(model_ + "/model.safetensors", bytes); }
  void set_config(const std::string& key, Json value) {
    Json config = parse_json(read_text_file(model_ + "/config.json"));
    config.set(key, std::move(value));
    write_text_file(model_ + "/config.json", config.dump(2));
  }

  TemporaryDirectory directory_;
  std::string model_ = copy_of_model(toy_model("llama"), directory_);
  Safetensors weights_ = Safetensors::read(model_ + "/model.safetensors");
};

TEST_F(BadCheckpoint, TheUndamagedOneBuilds) {
  write_weights(weights_.file());
  EXPECT_EQ(run_ingot({"build", model_, "-O0", "-o", directory_ / "engine"}).code, 0);
}

TEST_F(BadCheckpoint, TruncatedHeaderOrData) {
  std::string whole = weights_.file();
  write_weights(whole.substr(0, 5));
  expect_refused(1, {"model.safetensors", "5 bytes, too few for a safetensors header"});
  write_weights(whole.substr(0, 100));
  expect_refused(1, {"model.safetensors", "only 92 follow; it may be truncated"});
  write_weights(whole.substr(0, whole.size() - 10));
  expect_refused(1, {"model.safetensors", "but the file holds only", "truncated"});
  write_weights("");
  expect_refused(1, {"model.safetensors"});
}

TEST_F(BadCheckpoint, OversizedHeaderOrData) {
  std::string huge = weights_.file();
  std::memset(huge.data() + 3, 0x7f, 5);
  write_weights(huge);
  expect_refused(1, {"model.safetensors", "more than the format allows"});
  weights_.data += "more";
  write_weights(weights_.file());
  expect_refused(1, {"model.safetensors", "4 bytes after the last tensor belong to no tensor"});
}

TEST_F(BadCheckpoint, OverlappingTensors) {
  Json& entry = weights_.entry(kName);
  int64_t begin = entry.at("data_offsets").as_array()[0].as_int(),
          end = entry.at("data_offsets").as_array()[1].as_int();
  int64_t shift = begin > 0 ? -4 : 4;
  entry.set("data_offsets", pair(begin + shift, end + shift));
  write_weights(weights_.file());
  expect_refused(1, {"model.safetensors", kName});
}

TEST_F(BadCheckpoint, LyingOffsetsShapesAndDtypes) {
  struct Lie {
    const char* key;
    Json value;
    std::vector<std::string> said;
  };
  std::vector<Lie> lies = {
      {"data_offsets", pair(0, int64_t{1} << 62), {"ends at byte 4611686018427387904"}},
      {"data_offsets", pair(-8, 4), {"impossible data_offsets [-8, 4]"}},
      {"data_offsets", pair(8, 4), {"impossible data_offsets [8, 4]"}},
      {"shape", pair(int64_t{1} << 40, int64_t{1} << 40), {"size overflows"}},
      {"shape", pair(-1, -64), {"negative dimension -1"}},
      {"shape", pair(3, 5), {"data_offsets", "needs"}},
      {"shape", Json("wide"), {"found a string where an array is needed"}},
      {"dtype", Json("F7"), {"\"F7\"", "must be one of"}},
      {"dtype", Json(), {"found null where a string is needed"}},
  };
  for (const Lie& lie : lies) {
    SCOPED_TRACE(lie.said[0]);
    Safetensors damaged = weights_;
    damaged.entry(kName).set(lie.key, lie.value);
    write_weights(damaged.file());
    std::vector<std::string> said = lie.said;
    said.insert(said.end(), {"model.safetensors", kName});
    expect_refused(1, said);
  }
  write_weights(Safetensors::around("{\"a\": [1, 2", "data"));
  expect_refused(1, {"model.safetensors"});
  write_weights(Safetensors::around(std::string(400, '['), "data"));
  expect_refused(1, {"model.safetensors"});
}

TEST_F(BadCheckpoint, MissingTensorWrongShapeWrongDtype) {
  Safetensors damaged = weights_;
  int64_t elements = damaged.entry(kName).at("shape").as_array()[0].as_int();
  damaged.entry(kName).set("shape", pair(2, elements / 2));
  write_weights(damaged.file());
  expect_refused(1, {kName, "but the configuration needs", "[" + std::to_string(elements) + "]"});

  damaged = weights_;
  std::string dtype = damaged.entry(kName).at("dtype").as_string();
  if (dtype == "F32") {
    damaged.entry(kName).set("dtype", "I32");
  } else {
    damaged.entry(kName).set("dtype", "I8");
    damaged.entry(kName).set("shape", Json(Json::Array{Json(elements * 2)}));
    set_config("hidden_size", elements);
  }
  write_weights(damaged.file());
  expect_refused(1, {kName});

  damaged = weights_;
  for (auto& [key, value] : damaged.header.as_object())
    if (key == kName) key = "model.norms.weight";
  write_weights(damaged.file());
  expect_refused(1, {"no tensor \"model.norm.weight\"", "the nearest name is \"model.norms.weight\""});

  damaged = weights_;
  Json extra = damaged.entry(kName);
  int64_t end = static_cast<int64_t>(damaged.data.size());
  int64_t bytes = extra.at("data_offsets").as_array()[1].as_int() - extra.at("data_offsets").as_array()[0].as_int();
  extra.set("data_offsets", pair(end, end + bytes));
  damaged.header.set("model.surprise.weight", extra);
  damaged.data += std::string(static_cast<size_t>(bytes), '\0');
  write_weights(damaged.file());
  expect_refused(6, {"model.surprise.weight", "have no place in LlamaForCausalLM"});
}

TEST_F(BadCheckpoint, MissingFiles) {
  std::filesystem::remove(model_ + "/model.safetensors");
  expect_refused(1, {"has no weights", "model.safetensors"});
  std::filesystem::remove(model_ + "/config.json");
  expect_refused(1, {"has no config.json"});
  model_ = directory_ / "nowhere";
  expect_refused(2, {"nowhere does not exist"});
}

TEST_F(BadCheckpoint, MissingOrMisleadingShards) {
  std::filesystem::remove_all(model_);
  model_ = copy_of_model(toy_model("qwen2"), directory_);
  std::string index = read_text_file(model_ + "/model.safetensors.index.json");
  std::filesystem::rename(model_ + "/model-00002-of-00003.safetensors", directory_ / "kept");
  expect_refused(1, {"model-00002-of-00003.safetensors is missing", "is the download complete?"});
  std::filesystem::rename(directory_ / "kept", model_ + "/model-00002-of-00003.safetensors");
  std::string wrong = index;
  wrong.replace(wrong.find("model-00001-of-00003"), 20, "model-00003-of-00003");
  write_text_file(model_ + "/model.safetensors.index.json", wrong);
  expect_refused(1, {"should be in model-00003-of-00003.safetensors, which does not hold it"});
  wrong.replace(wrong.find("model-00003-of-00003"), 20, "../../../../etc/hosts");
  write_text_file(model_ + "/model.safetensors.index.json", wrong);
  expect_refused(1, {"which is no file name"});
}

TEST_F(BadCheckpoint, TokenizersAndGenerationConfigurations) {
  for (const char* text : {"", "{", "{}", "{\"model\": {\"type\": \"Mystery\"}}"}) {
    SCOPED_TRACE(text);
    write_text_file(model_ + "/tokenizer.json", text);
    const std::vector<std::string> said = {model_, "tokenizer", "without tokenizer.json there the model builds"};
    expect_refused(1, said);
    // Before anything is measured; the times would be kept.
    expect_refused(1, said, {"--timing-cache", directory_ / "times"});
    expect_refused(1, said, {"--timing-cache", directory_ / "times", "--dry-run"});
  }
  std::filesystem::copy_file(baker_7m() + "/tokenizer.json", model_ + "/tokenizer.json",
                             std::filesystem::copy_options::overwrite_existing);
  write_text_file(model_ + "/tokenizer_config.json", "{\"bos_token\": 3}");
  expect_refused(1, {"tokenizer_config.json", "bos_token"});
  std::filesystem::remove(model_ + "/tokenizer_config.json");
  for (const char* text : {"{", "{\"eos_token_id\": \"x\"}", "{\"eos_token_id\": [2, {}]}"}) {
    SCOPED_TRACE(text);
    write_text_file(model_ + "/generation_config.json", text);
    expect_refused(1, {"generation_config.json"});
    expect_refused(1, {"generation_config.json"}, {"-O0", "--dry-run"});
  }
  std::filesystem::remove(model_ + "/generation_config.json");
  set_config("eos_token_id", Json("x"));
  expect_refused(1, {"eos_token_id"});
  set_config("eos_token_id", Json(2));
  EXPECT_EQ(run_ingot({"build", model_, "-O0", "-o", directory_ / "engine"}).code, 0);
}

TEST_F(BadCheckpoint, UnknownRopeTypeIsNamed) {
  Json rope = Json::object();
  rope.set("rope_type", "spiral");
  rope.set("rope_theta", 10000.0);
  set_config("rope_parameters", rope);
  set_config("rope_scaling", rope);
  expect_refused(6, {"spiral", "llama3"});
}

TEST_F(BadCheckpoint, ConfigurationsThatMakeNoSense) {
  std::string good = read_text_file(model_ + "/config.json");
  struct Nonsense {
    const char* key;
    Json value;
  };
  for (const Nonsense& nonsense : std::vector<Nonsense>{{"hidden_size", Json(int64_t{1} << 50)},
                                                        {"num_hidden_layers", Json(-3)},
                                                        {"num_hidden_layers", Json(int64_t{1} << 40)},
                                                        {"num_attention_heads", Json(0)},
                                                        {"vocab_size", Json("many")},
                                                        {"dtype", Json(5)},
                                                        {"mlp_bias", Json("no")},
                                                        {"architectures", Json("LlamaForCausalLM")},
                                                        {"rms_norm_eps", Json("small")},
                                                        {"rms_norm_eps", Json(-1e-5)}}) {
    SCOPED_TRACE(nonsense.key);
    write_text_file(model_ + "/config.json", good);
    set_config(nonsense.key, nonsense.value);
    expect_refused(1, {"config.json: ", nonsense.key});
  }
  write_text_file(model_ + "/config.json", good);
  set_config("dtype", "float8_e4m3fn");
  expect_refused(6, {"config.json: ", "float8_e4m3fn"});
  write_text_file(model_ + "/config.json", "{\"architectures\": [\"LlamaForCausalLM\"]");
  expect_refused(1, {"config.json"});
  write_text_file(model_ + "/config.json", "{}");
  expect_refused(6, {"architectures"});
}

// --- timing caches --------------------------------------------------------------------------------------------------

TEST(BadTimingCache, GarbageLinesAreReportedAndSkipped) {
  TemporaryDirectory directory;
  std::string times = directory / "times.txt";
  std::vector<std::string> arguments = {"build", toy_model("llama"), "-O1", "--max-num-tokens",
                                        "1",     "--max-batch-size", "1",   "--timing-cache",
                                        times,   "--json",           "-o",  directory / "a"};
  ProgramRun fills = run_ingot(arguments);
  ASSERT_EQ(fills.code, 0) << fills.err;
  std::string good = read_text_file(times);
  std::string garbage =
      "\x01\x02\xff\xfe\n| | | \na | b | c@1 | -3us\nfour | words | but@1 | no time\n" + good + "half a li";
  write_text_file(times, garbage);
  arguments.back() = directory / "b";
  ProgramRun reads = run_ingot(arguments);
  EXPECT_EQ(reads.code, 0) << reads.err;
  for (const char* line : {"line 1:", "line 2:", "line 3:", "line 4:"})
    EXPECT_TRUE(contains(reads.err, line)) << line << " is not in: " << reads.err;
  EXPECT_TRUE(contains(reads.err, "skipped")) << reads.err;
  EXPECT_EQ(parse_json(reads.out).at("measured").as_int(), 0) << "the good lines were read";
  EXPECT_EQ(read_text_file(directory / "a/rank0.engine"), read_text_file(directory / "b/rank0.engine"));
}

TEST(BadTimingCache, AnotherFileIsRefusedBeforeAnythingIsMeasured) {
  TemporaryDirectory directory;
  std::string model = copy_of_model(toy_model("llama"), directory);
  for (const char* file : {"model.safetensors", "config.json"}) {
    std::string mine = model + "/" + file, before = read_text_file(mine);
    ProgramRun run =
        run_ingot({"build", model, "-O1", "-o", directory / "engine", "--timing-cache", mine, "--progress", "json"});
    EXPECT_EQ(run.code, 2) << run.err;
    EXPECT_TRUE(contains(run.err, mine + " is no timing cache")) << run.err;
    EXPECT_FALSE(contains(run.err, "\"phase\":\"tune\"")) << run.err;
    EXPECT_TRUE(read_text_file(mine) == before);
  }
  EXPECT_FALSE(std::filesystem::exists(directory / "engine"));
}

// --- prompts --------------------------------------------------------------------------------------------------------

TEST(BadPrompt, EmptyPromptsAndPromptsBeyondTheContext) {
  TemporaryDirectory directory;
  std::string engine = directory / "engine";
  BuildConfig config = untuned("float32");
  config.max_seq_len = 16;
  config.max_input_len = 10;
  build_engine_dir(PretrainedModel::from_pretrained(baker_7m()), config, engine);
  EXPECT_EQ(run_ingot({"run", engine, ""}).code, 2);
  ProgramRun run = run_ingot({"run", engine});
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(contains(run.err, "the prompt is empty")) << run.err;
  std::string words =
      "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen";
  run = run_ingot({"run", engine, words, "-n", "1"});
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(contains(run.err, "max_input_len") && contains(run.err, "10")) << run.err;
  run = run_ingot({"run", engine, "one two three", "-n", "20"});
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(contains(run.err, "max_seq_len") && contains(run.err, "16")) << run.err;
  run = run_ingot({"run", engine, "one two", "-n", "2", "--kv-cache-memory", "1k"});
  EXPECT_EQ(run.code, 3) << run.err;
  run = run_ingot({"run", directory / "nowhere", "one"});
  EXPECT_EQ(run.code, 2) << run.err;
}

}  // namespace
}  // namespace ingot
