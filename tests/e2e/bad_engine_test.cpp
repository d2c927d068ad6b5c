// A damaged engine, or one whose files do not belong together, is refused with what is wrong and exit code 4.
#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "e2e/models.h"
#include "e2e/run_ingot.h"
#include "plan/engine_file.h"
#include "plan/engine_format.h"

namespace ingot {
namespace {

class BadEngine : public testing::Test {
 protected:
  void SetUp() override {
    build_engine_dir(PretrainedModel::from_pretrained(toy_model("llama")), untuned("float32"), engine_);
    bytes_ = read_text_file(file_);
    std::memcpy(&preamble_, bytes_.data(), sizeof preamble_);
  }

  void expect_refused(const std::string& bytes, const std::string& said) {
    write_text_file(file_, bytes);
    try {
      Engine::from_dir(engine_);
      ADD_FAILURE() << "accepted, where this was expected: " << said;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kIncompatible) << error.what();
      EXPECT_TRUE(contains(error.what(), "rank0.engine")) << error.what();
      EXPECT_TRUE(contains(error.what(), said)) << said << " is not in: " << error.what();
    }
  }
  std::string with_flipped(size_t at) const {
    std::string bytes = bytes_;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    return bytes;
  }
  // With valid checksums around what is wrong.
  std::string with_preamble(EnginePreamble preamble) const {
    preamble.checksum = preamble_checksum(preamble);
    std::string bytes = bytes_;
    std::memcpy(bytes.data(), &preamble, sizeof preamble);
    return bytes;
  }
  std::string with_header(const std::string& header) const {
    EnginePreamble preamble = preamble_;
    preamble.header_bytes = header.size();
    preamble.header_checksum = hash64(header);
    preamble.file_bytes = preamble.header_offset + header.size();
    preamble.checksum = preamble_checksum(preamble);
    std::string bytes = bytes_.substr(0, preamble.header_offset) + header;
    std::memcpy(bytes.data(), &preamble, sizeof preamble);
    return bytes;
  }
  Json header() const { return parse_json(bytes_.substr(preamble_.header_offset)); }

  TemporaryDirectory directory_;
  std::string engine_ = directory_ / "engine", file_ = engine_ + "/rank0.engine", bytes_;
  EnginePreamble preamble_;
};

TEST_F(BadEngine, AFlippedBitInEveryByteOfThePreamble) {
  for (size_t at = 0; at < sizeof(EnginePreamble); ++at) {
    SCOPED_TRACE(at);
    expect_refused(with_flipped(at), "preamble");
  }
}

TEST_F(BadEngine, AFlippedBitInEverySectionAndBetweenThem) {
  Json sections = header().at("sections");
  size_t covered = sizeof(EnginePreamble);
  for (const Json& section : sections.as_array()) {
    std::string name = section.at("name").as_string();
    auto offset = static_cast<size_t>(section.at("offset").as_int());
    auto size = static_cast<size_t>(section.at("bytes").as_int());
    SCOPED_TRACE(name);
    if (offset > covered) expect_refused(with_flipped(covered + (offset - covered) / 2), "padding");
    covered = offset + size;
    if (size == 0) continue;  // the modules of an engine for the CPU
    for (size_t part = 0; part < 8; ++part) expect_refused(with_flipped(offset + size * part / 8), "section " + name);
    expect_refused(with_flipped(offset + size - 1), "section " + name);
  }
  for (size_t at = preamble_.header_offset; at < bytes_.size(); at += 7) expect_refused(with_flipped(at), "header");
}

TEST_F(BadEngine, FieldsThatLieBehindValidChecksums) {
  EnginePreamble lie = preamble_;
  lie.version = kEngineFormatVersion + 1;
  expect_refused(with_preamble(lie), format("the format version is {}; this build of ingot reads version {}: build the "
                                            "engine again",
                                            kEngineFormatVersion + 1, kEngineFormatVersion));
  lie = preamble_, lie.preamble_bytes = 128;
  expect_refused(with_preamble(lie), "128 bytes");
  lie = preamble_, lie.header_offset = UINT64_MAX - 4095;
  expect_refused(with_preamble(lie), "header range");
  lie = preamble_, lie.header_offset += 1;
  expect_refused(with_preamble(lie), "header range");
  lie = preamble_, lie.header_bytes = UINT64_MAX;
  expect_refused(with_preamble(lie), "header range");
  lie = preamble_, lie.header_checksum ^= 1;
  expect_refused(with_preamble(lie), "header");
  lie = preamble_, lie.file_bytes += 1;
  expect_refused(with_preamble(lie), "truncated or extended");
  lie = preamble_, lie.reserved = 7;
  expect_refused(with_preamble(lie), "reserved field 7");
}

TEST_F(BadEngine, HeaderMembersThatLieBehindValidChecksums) {
  for (const char* key : {"offset", "bytes", "block_bytes"})
    for (size_t s = 0; s < 3; ++s)
      for (int64_t value : {int64_t{-1}, int64_t{0}, int64_t{4097}, int64_t{1} << 62}) {
        Json lie = header();
        if (lie.at("sections").as_array()[s].at(key).as_int() == value) continue;  // an engine without modules
        for (auto& [name, sections] : lie.as_object())
          if (name == "sections") sections.as_array()[s].set(key, value);
        expect_refused(with_header(lie.dump()), "section");
      }
  Json lie = header();
  lie.set("content_hash", "0123456789abcdef");
  expect_refused(with_header(lie.dump()), "content hash");
  lie = header();
  lie.set("surprise", 1);
  expect_refused(with_header(lie.dump()), "header");
  expect_refused(with_header("{}"), "header");
  expect_refused(with_header("[1,"), "header");
  expect_refused(with_header(std::string(10000, '[')), "header");
}

TEST_F(BadEngine, TruncatedExtendedEmptyOrAnotherFile) {
  for (size_t size :
       {size_t{0}, size_t{1}, size_t{63}, size_t{64}, size_t{4096}, bytes_.size() / 2, bytes_.size() - 1}) {
    SCOPED_TRACE(size);
    expect_refused(bytes_.substr(0, size), size < 64 ? "an engine has at least 64" : "truncated or extended");
  }
  expect_refused(bytes_ + "x", "truncated or extended");
  expect_refused(std::string(8192, 'x'), "does not begin with INGOTENG");
}

TEST_F(BadEngine, TheProgramExitsWith4) {
  std::string reference = toy_model("llama") + "/golden.safetensors";
  write_text_file(file_, with_flipped(5000));
  ProgramRun run = run_ingot({"verify", engine_, "--reference", reference});
  EXPECT_EQ(run.code, 4);
  EXPECT_TRUE(contains(run.err, "section weights: damaged")) << run.err;
  EnginePreamble old = preamble_;
  old.version = 0;
  write_text_file(file_, with_preamble(old));
  for (const char* verb : {"verify", "bench", "inspect", "run"}) {
    std::vector<std::string> arguments = {verb, engine_};
    if (arguments[0] == "verify") arguments.insert(arguments.end(), {"--reference", reference});
    if (arguments[0] == "run") arguments.push_back("Hello");
    run = run_ingot(arguments);
    EXPECT_EQ(run.code, 4) << verb;
    EXPECT_TRUE(contains(run.err, "format version is 0")) << run.err;
  }
}

TEST_F(BadEngine, ADamagedConfigurationBesideIt) {
  for (const char* text : {"", "{", "[]", "{}", "{\"build_config\": {}}", "{\"pretrained_config\": 3"}) {
    SCOPED_TRACE(text);
    write_text_file(engine_ + "/config.json", text);
    ProgramRun run = run_ingot({"verify", engine_, "--reference", toy_model("llama") + "/golden.safetensors"});
    EXPECT_EQ(run.code, 4) << run.err;
    EXPECT_TRUE(contains(run.err, "config.json")) << run.err;
  }
  std::filesystem::remove(engine_ + "/config.json");
  EXPECT_EQ(run_ingot({"verify", engine_, "--reference", toy_model("llama") + "/golden.safetensors"}).code, 4);
}

TEST_F(BadEngine, AConfigurationWithValuesThatNoBuildGives) {
  const Json good = parse_json(read_text_file(engine_ + "/config.json"));
  const std::pair<const char*, Json> lies[] = {{"max_input_len", Json(-5)},
                                               {"max_input_len", Json(int64_t{1} << 30)},
                                               {"max_seq_len", Json(0)},
                                               {"max_batch_size", Json(0)},
                                               {"max_num_tokens", Json(3)},
                                               {"threads", Json(0)},
                                               {"threads", Json(int64_t{1} << 33)},
                                               {"dtype", Json("float99")},
                                               {"max_seq_len", Json("long")},
                                               {"max_sequence_len", Json(8)}};
  for (const auto& [key, value] : lies) {
    SCOPED_TRACE(std::string(key) + " " + value.dump());
    Json lie = good;
    for (auto& [name, config] : lie.as_object())
      if (name == "build_config") config.set(key, value);
    write_text_file(engine_ + "/config.json", lie.dump(2));
    try {
      Engine::from_dir(engine_);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kIncompatible) << error.what();
      EXPECT_TRUE(contains(error.what(), "config.json")) << error.what();
      EXPECT_TRUE(contains(error.what(), std::string(key) == "dtype" ? "float99" : key)) << error.what();
    }
  }
  write_text_file(engine_ + "/config.json", good.dump(2));
  EXPECT_NO_THROW(Engine::from_dir(engine_));
}

TEST_F(BadEngine, TheConfigurationOfAnotherEngine) {
  build_engine_dir(PretrainedModel::from_pretrained(toy_model("llama")), untuned("bfloat16"), directory_ / "other");
  std::filesystem::copy_file(directory_ / "other/config.json", engine_ + "/config.json",
                             std::filesystem::copy_options::overwrite_existing);
  ProgramRun run = run_ingot({"verify", engine_, "--reference", toy_model("llama") + "/golden.safetensors"});
  EXPECT_EQ(run.code, 4) << run.err;
  EXPECT_TRUE(contains(run.err, Engine::from_dir(directory_ / "other").content_hash())) << run.err;
  EXPECT_TRUE(contains(run.err, "build the engine again")) << run.err;
}

TEST_F(BadEngine, ReferencesThatDoNotFit) {
  EXPECT_EQ(run_ingot({"verify", engine_, "--reference", directory_ / "nothing"}).code, 1);
  ProgramRun run = run_ingot({"verify", engine_, "--reference", toy_model("llama") + "/model.safetensors"});
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(contains(run.err, "holds no tensor \"input_ids\"")) << run.err;

  const std::string header = R"({"input_ids": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},)"
                             R"( "logits": {"dtype": "I64", "shape": [1], "data_offsets": [8, 16]}})";
  const uint64_t size = header.size(), id = uint64_t{1} << 40;
  std::string file(24 + header.size(), '\0');
  std::memcpy(file.data(), &size, 8);
  std::memcpy(file.data() + 8, header.data(), header.size());
  std::memcpy(file.data() + 8 + header.size(), &id, 8);
  write_text_file(directory_ / "large.safetensors", file);
  run = run_ingot({"verify", engine_, "--reference", directory_ / "large.safetensors"});
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(contains(run.err, "\"input_ids\" holds 1099511627776, which is no token's id")) << run.err;
}

}  // namespace
}  // namespace ingot
