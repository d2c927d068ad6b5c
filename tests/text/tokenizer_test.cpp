// Whole tokenizers against the library that published them.
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/error.h"
#include "text/oracle.h"

namespace ingot {
namespace {

void check_golden(const Path& directory, size_t at_least) {
  SCOPED_TRACE(directory.filename().string());
  const Tokenizer tokenizer = Tokenizer::from_dir(directory);
  const Json golden = parse_json(read_text_file(directory / "golden.json"));
  ASSERT_GE(golden.as_array().size(), at_least);
  for (const Json& item : golden.as_array()) {
    const std::string& text = item.at("text").as_string();
    const std::vector<int32_t> plain = read_ids(item.at("ids_no_special"));
    EXPECT_EQ(tokenizer.encode(text, true), read_ids(item.at("ids"))) << text;
    EXPECT_EQ(tokenizer.encode(text, false), plain) << text;
    EXPECT_EQ(tokenizer.decode(plain, true), item.at("decoded").as_string()) << text;
    EXPECT_EQ(stream(tokenizer, plain, true), item.at("decoded").as_string()) << text;
  }
}

constexpr const char* kKinds[] = {"gpt2", "llama3", "qwen", "sentencepiece_bpe", "unigram", "wordpiece"};

TEST(Tokenizer, GoldenCases) {
  for (const char* kind : kKinds) check_golden(oracle_data() / kind, 48);
}

TEST(Tokenizer, SharedGoldenCases) {
  if (!std::filesystem::exists(shared_data() / "golden/tokenizers")) GTEST_SKIP() << "no ../shared/golden/tokenizers";
  for (const char* kind : kKinds) check_golden(shared_data() / "golden/tokenizers" / kind, 60);
}

TEST(Tokenizer, BundledModelContinuations) {
  const Path directory = shared_data() / "models/baker-7m";
  if (!std::filesystem::exists(directory / "golden.json")) GTEST_SKIP() << "no ../shared/models/baker-7m";
  const Tokenizer tokenizer = Tokenizer::from_dir(directory);
  EXPECT_EQ(tokenizer.bos_id(), 0);
  EXPECT_EQ(tokenizer.eos_id(), 1);
  const Json golden = parse_json(read_text_file(directory / "golden.json"));
  for (const auto& [prompt, item] : golden.at("gen").as_object()) {
    const std::vector<int32_t> ids = read_ids(item.at("ids")), start = tokenizer.encode(prompt, true);
    ASSERT_LE(start.size(), ids.size());
    EXPECT_TRUE(std::equal(start.begin(), start.end(), ids.begin())) << prompt;
    EXPECT_EQ(tokenizer.decode(ids, false), item.at("text").as_string());
    EXPECT_EQ(stream(tokenizer, ids, false), item.at("text").as_string());
  }
}

// Variants: a golden tokenizer with some of its parts replaced, one per component type and option.
TEST(Tokenizer, OracleVariants) {
  const Json variants = parse_json(read_text_file(oracle_data() / "variants.json"));
  ASSERT_GE(variants.as_array().size(), 80u);
  for (const Json& variant : variants.as_array()) {
    Json file = parse_json(read_text_file(oracle_data() / variant.at("base").as_string() / "tokenizer.json"));
    for (const auto& [key, part] : variant.at("parts").as_object()) {
      if (key != "model") {
        file.set(key, part);
        continue;
      }
      Json model = file.at("model");
      for (const auto& [option, value] : part.as_object()) model.set(option, value);
      file.set("model", model);
    }
    SCOPED_TRACE(variant.at("parts").dump().substr(0, 400));
    const Tokenizer tokenizer = Tokenizer::from_json(file.dump());
    EXPECT_EQ(tokenizer.vocab_size(), static_cast<size_t>(variant.at("vocab_size").as_int()));
    for (const Json& item : variant.at("cases").as_array()) {
      const std::string& text = item.at("text").as_string();
      const std::vector<int32_t> plain = read_ids(item.at("plain"));
      EXPECT_EQ(tokenizer.encode(text, true), read_ids(item.at("ids"))) << text;
      EXPECT_EQ(tokenizer.encode(text, false), plain) << text;
      EXPECT_EQ(tokenizer.decode(plain, true), item.at("decoded").as_string()) << text;
      EXPECT_EQ(tokenizer.decode(plain, false), item.at("decoded_all").as_string()) << text;
      EXPECT_EQ(stream(tokenizer, plain, true), item.at("decoded").as_string()) << text;
      EXPECT_EQ(stream(tokenizer, plain, false), item.at("decoded_all").as_string()) << text;
    }
  }
}

TEST(Tokenizer, TokensAndIds) {
  const Tokenizer tokenizer = Tokenizer::from_dir(oracle_data() / "llama3");
  EXPECT_EQ(tokenizer.vocab_size(), 1500u);
  EXPECT_EQ(tokenizer.token_to_id("<|begin_of_text|>"), 0);
  EXPECT_EQ(tokenizer.id_to_token(2), "!");
  EXPECT_EQ(tokenizer.token_to_id("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer.id_to_token(1500), std::nullopt);
  EXPECT_EQ(tokenizer.id_to_token(-1), std::nullopt);
  EXPECT_TRUE(tokenizer.is_special(1));
  EXPECT_FALSE(tokenizer.is_special(2));
  EXPECT_FALSE(tokenizer.is_special(99999));
  EXPECT_EQ(tokenizer.bos_id(), std::nullopt);  // nothing beside tokenizer.json says which
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{-5, 2, 99999}, true), "!");
  EXPECT_TRUE(tokenizer.encode("", false).empty());
  EXPECT_EQ(tokenizer.encode("", true), std::vector<int32_t>{0});
}

TEST(Tokenizer, SpecialTokensOfTheConfiguration) {
  const Path directory = std::filesystem::path(testing::TempDir()) / "tokenizer_config_test";
  std::filesystem::create_directories(directory);
  std::filesystem::copy_file(oracle_data() / "llama3/tokenizer.json", directory / "tokenizer.json",
                             std::filesystem::copy_options::overwrite_existing);
  write_text_file(directory / "tokenizer_config.json",
                  R"({"bos_token": {"content": "<|begin_of_text|>"}, "eos_token": null})");
  write_text_file(directory / "special_tokens_map.json", R"({"bos_token": "!", "eos_token": "<|end_of_text|>"})");
  const Tokenizer tokenizer = Tokenizer::from_dir(directory);
  EXPECT_EQ(tokenizer.bos_id(), 0);
  EXPECT_EQ(tokenizer.eos_id(), 1);
  std::filesystem::remove_all(directory);
}

TEST(Tokenizer, InvalidBytesCountAsReplacementCharacters) {
  const Tokenizer tokenizer = Tokenizer::from_dir(oracle_data() / "gpt2");
  const std::string replaced = "a\xEF\xBF\xBD z";
  EXPECT_EQ(tokenizer.encode("a\xFF z", false), tokenizer.encode(replaced, false));
  EXPECT_EQ(tokenizer.encode("a\xE2\x82 z", false), tokenizer.encode(replaced, false));  // one broken character
  EXPECT_EQ(tokenizer.encode("a\xED\xA0\x80 z", false),
            tokenizer.encode("a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD z", false));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a\xFF z", false), true), replaced);
}

// Long words take the heap, short ones the scan; texts without cuts are encoded in independent parts.
TEST(Tokenizer, LongWordsAreTheSameAsShortOnes) {
  const Tokenizer tokenizer = Tokenizer::from_dir(oracle_data() / "sentencepiece_bpe");
  std::string long_text;
  for (int i = 0; i < 3000; ++i) long_text += i % 7 == 0 ? "the whole thing " : i % 3 == 0 ? "hahaha" : "e";
  const std::vector<int32_t> ids = tokenizer.encode(long_text, false);
  EXPECT_EQ(tokenizer.decode(ids, true), long_text);
  const Tokenizer bytes = Tokenizer::from_dir(oracle_data() / "gpt2");
  const std::string word(100000, 'a');
  EXPECT_EQ(bytes.decode(bytes.encode(word, false), true), word);
}

TEST(Tokenizer, ManyThreadsAgree) {
  const Tokenizer tokenizer = Tokenizer::from_dir(oracle_data() / "llama3");
  const Json golden = parse_json(read_text_file(oracle_data() / "llama3/golden.json"));
  std::vector<std::vector<int32_t>> expected;
  for (const Json& item : golden.as_array()) expected.push_back(read_ids(item.at("ids")));
  std::vector<int> wrong(4, 0);
  {
    std::vector<std::jthread> threads;
    for (int& count : wrong)
      threads.emplace_back([&] {
        for (int round = 0; round < 20; ++round)
          for (size_t i = 0; i < expected.size(); ++i)
            count += tokenizer.encode(golden.as_array()[i].at("text").as_string(), true) != expected[i];
      });
  }
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TEST(Tokenizer, MovedTokenizerStillWorks) {
  Tokenizer tokenizer = Tokenizer::from_dir(oracle_data() / "gpt2");
  Detokenizer detokenizer(tokenizer, true);
  const std::vector<int32_t> ids = tokenizer.encode("Hello world", false);
  const Tokenizer moved = std::move(tokenizer);
  EXPECT_EQ(moved.encode("Hello world", false), ids);
  std::string text;
  for (int32_t id : ids) text += detokenizer.push(id);
  EXPECT_EQ(text + detokenizer.finish(), "Hello world");
}

}  // namespace
}  // namespace ingot
