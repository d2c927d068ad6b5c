#include "generate/text_generator.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "runtime/tiny_model.h"

namespace ingot {
namespace {

TEST(StopStringsTest, EndsBeforeTheFirstMatch) {
  StopStrings stops({"END", "STOP"});
  EXPECT_EQ(stops.push("one STENDing"), "one ST");
  EXPECT_TRUE(stops.found());
  EXPECT_EQ(stops.push("more"), "");
  EXPECT_EQ(stops.finish(), "");
}

TEST(StopStringsTest, HoldsBackWhatMayBecomeAMatch) {
  StopStrings stops({"ababc"});
  EXPECT_EQ(stops.push("xabab"), "x");
  EXPECT_EQ(stops.push("abx"), "abababx");
  EXPECT_EQ(stops.push("ab"), "");
  EXPECT_FALSE(stops.found());
  EXPECT_EQ(stops.finish(), "ab");
}

TEST(StopStringsTest, DoesNotDependOnThePieces) {
  std::mt19937 random(2);
  for (int round = 0; round < 5000; ++round) {
    auto word = [&](size_t least, size_t most) {
      std::string text;
      for (size_t n = least + random() % (most - least + 1); n > 0; --n) text += static_cast<char>('a' + random() % 2);
      return text;
    };
    std::string text = word(0, 30);
    std::vector<std::string> list = {word(1, 6), word(2, 8)};
    StopStrings stops(list), one_by_one(list);
    std::string told, told_one_by_one;
    for (size_t fed = 0; fed < text.size() && !stops.found();) {
      size_t piece = 1 + random() % 5;
      told += stops.push(std::string_view(text).substr(fed, piece));
      fed += piece;
    }
    for (char c : text) told_one_by_one += one_by_one.push(std::string_view(&c, 1));
    told += stops.finish();
    ASSERT_EQ(told, told_one_by_one + one_by_one.finish());
    bool matches = text.find(list[0]) != std::string::npos || text.find(list[1]) != std::string::npos;
    ASSERT_EQ(stops.found(), matches);
    if (!matches) {
      ASSERT_EQ(told, text);
    } else {
      std::string_view rest = std::string_view(text).substr(told.size());
      ASSERT_TRUE(text.starts_with(told));
      ASSERT_TRUE(rest.starts_with(list[0]) || rest.starts_with(list[1]));
    }
  }
}

// 32 words "w0" … "w29", "<s>" and "</s>"; encoding puts <s> in front.
std::string tiny_tokenizer_json() {
  Json vocab = Json::object();
  for (int i = 0; i < 30; ++i) vocab.set("w" + std::to_string(i), i);
  vocab.set("<s>", 30);
  vocab.set("</s>", 31);
  std::string added;
  for (auto [id, text] : {std::pair{30, "<s>"}, {31, "</s>"}})
    added += format(R"({}{{"id": {}, "content": "{}", "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true}})",
                    added.empty() ? "" : ", ", id, text);
  return R"({"version": "1.0", "added_tokens": [)" + added + R"(], "normalizer": null,
          "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": null,
          "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [30], "tokens": ["<s>"]}}},
          "model": {"type": "WordLevel", "unk_token": "w0", "vocab": )" +
         vocab.dump() + "}}";
}

Tokenizer tiny_tokenizer() { return Tokenizer::from_json(tiny_tokenizer_json()); }

class TextGeneratorTest : public testing::Test {
 protected:
  struct Answer {
    std::string text, finish_reason;
    std::vector<int32_t> ids;
    std::vector<std::string> pieces;
  };

  Answer generate(std::string_view prompt, const SamplingParams& params) {
    uint64_t id = generator_.submit(prompt, params);
    Answer answer;
    while (!generator_.idle())
      for (TextEvent& event : generator_.step()) {
        EXPECT_EQ(event.request, id);
        EXPECT_EQ(answer.finish_reason, "");
        answer.ids.push_back(event.token.id);
        answer.text += event.text;
        answer.pieces.push_back(event.text);
        answer.finish_reason = event.finish_reason;
      }
    return answer;
  }

  std::vector<int32_t> continuation(const std::vector<int32_t>& prompt, size_t count) {
    return model_.continuation(prompt, count);
  }

  TinyModel model_;
  TokenSession session_{model_.engine(), {{.threads = 1, .kv_cache_memory = 1 << 20}, {{}}}};
  TextGenerator generator_{session_, tiny_tokenizer()};
  const std::vector<int32_t> kPrompt = {30, 1, 2, 3};
};

TEST_F(TextGeneratorTest, StreamsTheDecodedAnswer) {
  Answer answer = generate("w1 w2 w3", {.max_tokens = 12});
  EXPECT_EQ(answer.ids, continuation(kPrompt, 12));
  EXPECT_EQ(answer.text, generator_.tokenizer().decode(answer.ids, true));
  EXPECT_EQ(answer.finish_reason, "length");
}

TEST_F(TextGeneratorTest, StopsAtAStopStringAcrossTokens) {
  Answer whole = generate("w1 w2 w3", {.max_tokens = 12});
  // From the middle of the answer to the middle of another token.
  std::string stop = whole.text.substr(whole.text.size() / 2, 5);
  Answer answer = generate("w1 w2 w3", {.stop = {stop}, .max_tokens = 12});
  EXPECT_EQ(answer.text, whole.text.substr(0, whole.text.find(stop)));
  EXPECT_EQ(answer.finish_reason, "stop");
  EXPECT_LT(answer.ids.size(), whole.ids.size());
  EXPECT_TRUE(session_.idle());
  EXPECT_EQ(session_.runner().pool().used_bytes(), 0u);
  // A stop that never comes holds nothing back in the end.
  EXPECT_EQ(generate("w1 w2 w3", {.stop = {whole.text + "more"}, .max_tokens = 12}).text, whole.text);
}

TEST_F(TextGeneratorTest, CountsStopStringsFromMinTokensOn) {
  Answer whole = generate("w1 w2 w3", {.max_tokens = 12});
  Answer answer = generate("w1 w2 w3", {.stop = {whole.text.substr(0, 2)}, .min_tokens = 6, .max_tokens = 12});
  EXPECT_GE(answer.ids.size(), 6u);
}

TEST_F(TextGeneratorTest, LeavesTheStopTokenOut) {
  auto ids = continuation(kPrompt, 12);
  Answer answer = generate("w1 w2 w3", {.stop_ids = {ids[3]}, .max_tokens = 12});
  auto end = std::find(ids.begin(), ids.end(), ids[3]);
  EXPECT_EQ(answer.finish_reason, "stop");
  EXPECT_EQ(answer.text, generator_.tokenizer().decode({ids.begin(), end}, true));
}

TEST_F(TextGeneratorTest, RefusesAnEmptyPrompt) { EXPECT_THROW(generator_.submit(std::vector<int32_t>{}, {}), Error); }

TEST_F(TextGeneratorTest, ForgetsACancelledRequest) {
  uint64_t id = generator_.submit("w4", {.max_tokens = 12});
  generator_.step();
  generator_.cancel(id);
  EXPECT_TRUE(generator_.idle());
  EXPECT_TRUE(generator_.step().empty());
}

TEST(TextGeneratorEncodeTest, PutsBeginOfTextOnce) {
  Path folder = std::filesystem::temp_directory_path() / ("ingot_text_" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  OnExit remove([&] { std::filesystem::remove_all(folder); });
  TinyModel model;
  TokenSession session(model.engine(), {{.threads = 1, .kv_cache_memory = 1 << 20}, {{}}});
  write_text_file(folder / "tokenizer.json", tiny_tokenizer_json());
  TextGenerator without_config(session, Tokenizer::from_dir(folder));
  EXPECT_EQ(without_config.encode("<s> w1"), (std::vector<int32_t>{30, 30, 1}));
  write_text_file(folder / "tokenizer_config.json", R"({"bos_token": "<s>"})");
  TextGenerator generator(session, Tokenizer::from_dir(folder));
  EXPECT_EQ(generator.encode("w1"), (std::vector<int32_t>{30, 1}));
  EXPECT_EQ(generator.encode("<s> w1"), (std::vector<int32_t>{30, 1}));
  EXPECT_EQ(generator.encode("<s>"), (std::vector<int32_t>{30}));
}

}  // namespace
}  // namespace ingot
