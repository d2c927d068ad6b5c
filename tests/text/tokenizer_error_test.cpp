// What a damaged or unknown tokenizer file says.
#include <gtest/gtest.h>

#include "base/error.h"
#include "text/tokenizer.h"

namespace ingot {
namespace {

constexpr const char* kModel = R"("model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"})";

std::string error_of(const std::string& json) {
  try {
    Tokenizer::from_json(json).encode("a b \xE2\x82\xAC", true);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string with(const std::string& part) { return "{" + part + ", " + kModel + "}"; }

void expect_error(const std::string& json, const std::string& words) {
  std::string error = error_of(json);
  EXPECT_NE(error.find(words), std::string::npos) << json << "\ngave: " << error;
}

TEST(TokenizerErrors, UnknownTypesAreNamed) {
  EXPECT_EQ(error_of(with(R"("normalizer": null)")), "no error");
  expect_error(with(R"("normalizer": {"type": "Shout"})"), "normalizer Shout");
  expect_error(with(R"("normalizer": {"type": "Sequence", "normalizers": [{"type": "Shout"}]})"), "normalizer Shout");
  expect_error(with(R"("pre_tokenizer": {"type": "Chop"})"), "pre_tokenizer Chop");
  expect_error(with(R"("pre_tokenizer": {"type": "UnicodeScripts"})"), "pre_tokenizer UnicodeScripts");
  expect_error(with(R"("post_processor": {"type": "Wrap"})"), "post_processor Wrap");
  expect_error(with(R"("decoder": {"type": "Glue"})"), "decoder Glue");
  expect_error(R"({"model": {"type": "Magic"}})", "model Magic");
  expect_error(R"({"version": "2.0", "model": {}})", "2.0");
}

TEST(TokenizerErrors, DamagedParts) {
  expect_error("", "JSON");
  expect_error("[]", "object");
  expect_error("{}", "model");
  expect_error(with(R"("normalizer": {"type": "Replace", "pattern": {"Glob": "*"}, "content": ""})"), "Glob");
  expect_error(with(R"("normalizer": {"type": "Replace", "pattern": {"Regex": "(a"}, "content": ""})"), "(a");
  expect_error(with(R"("normalizer": {"type": "Precompiled", "precompiled_charsmap": "////////"})"), "charsmap");
  expect_error(with(R"("normalizer": {"type": "Precompiled", "precompiled_charsmap": "a?b"})"), "base64");
  expect_error(with(R"("pre_tokenizer": {"type": "Split", "pattern": {"String": "a"}, "behavior": "Shredded"})"),
               "Shredded");
  expect_error(with(R"("pre_tokenizer": {"type": "Metaspace", "replacement": "__"})"), "exactly one character");
  expect_error(with(R"("pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"})"), "last");
  expect_error(with(R"("pre_tokenizer": {"type": "FixedLength", "length": 0})"), "length");
  expect_error(
      with(
          R"("post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[X]"}}], "special_tokens": {}})"),
      "[X]");
  expect_error(with(R"("post_processor": {"type": "BertProcessing", "cls": ["a", -1], "sep": ["b", 1]})"), "-1");
  expect_error(with(R"("added_tokens": [{"id": 1}])"), "content");
}

TEST(TokenizerErrors, DamagedModels) {
  expect_error(R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}})", "\"ab\"");
  expect_error(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a  b"]}})", "one space");
  expect_error(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]}})", "1 parts");
  expect_error(R"({"model": {"type": "BPE", "vocab": {"a": 4000000000}, "merges": []}})", "4000000000");
  expect_error(R"({"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}})", "-1");
  expect_error(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.1}})", "dropout");
  expect_error(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "<unk>"}})", "<unk>");
  expect_error(R"({"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 1}})", "unk_id");
  expect_error(R"({"model": {"type": "Unigram", "vocab": [["a", 0.0]]}})", "unk_id");
  expect_error(R"({"model": {"type": "WordLevel", "vocab": {"b": 0}, "unk_token": "?"}})", "\"?\"");
}

// A pattern that needs exponentially many steps ends in an error, not in a hang.
TEST(TokenizerErrors, RunawayPattern) {
  const std::string json = with(
      R"("pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": false})");
  EXPECT_THROW(Tokenizer::from_json(json).encode(std::string(60, 'x') + " y", false), Error);
}

// Replacements that double the text, one after another.
TEST(TokenizerErrors, RunawayReplacements) {
  std::string parts;
  for (int i = 0; i < 60; ++i)
    parts += std::string(i ? "," : "") + R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})";
  expect_error(with(R"("normalizer": {"type": "Sequence", "normalizers": [)" + parts + "]}"), "replacements");
  const Tokenizer decoding =
      Tokenizer::from_json(with(R"("decoder": {"type": "Sequence", "decoders": [)" + parts + "]}"));
  EXPECT_THROW(decoding.decode(std::vector<int32_t>{0}, false), Error);
}

}  // namespace
}  // namespace ingot
