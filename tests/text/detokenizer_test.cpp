// Streaming: what comes when, for decoders that look at their neighbours.
#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include "text/oracle.h"
#include "text/unicode.h"

namespace ingot {
namespace {

Tokenizer tokenizer_with(const std::string& decoder, const std::vector<std::string>& tokens) {
  Json vocab = Json::object();
  for (size_t i = 0; i < tokens.size(); ++i) vocab.set(tokens[i], Json(static_cast<int64_t>(i)));
  Json model = Json::object();
  model.set("type", "WordLevel");
  model.set("vocab", vocab);
  model.set("unk_token", "?");
  Json file = Json::object();
  file.set("model", model);
  if (!decoder.empty()) file.set("decoder", parse_json(decoder));
  return Tokenizer::from_json(file.dump());
}

std::vector<std::string> pushes(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  Detokenizer detokenizer(tokenizer, false);
  std::vector<std::string> texts;
  for (int32_t id : ids) texts.push_back(detokenizer.push(id));
  texts.push_back(detokenizer.finish());
  std::string all;
  for (const std::string& text : texts) {
    EXPECT_TRUE(is_valid_utf8(text));
    all += text;
  }
  EXPECT_EQ(all, tokenizer.decode(ids, false));
  return texts;
}

using Texts = std::vector<std::string>;

TEST(Detokenizer, ByteLevelWaitsForWholeCharacters) {
  // The bytes of "é" and of U+1F642, each as a character of the byte alphabet.
  auto tokenizer = tokenizer_with(R"({"type": "ByteLevel"})", {"Ã", "©", "ðŁ", "ĻĤ", "aĠ"});
  EXPECT_EQ(pushes(tokenizer, {0, 1, 4}), (Texts{"", "é", "a ", ""}));
  EXPECT_EQ(pushes(tokenizer, {2, 3}), (Texts{"", "\xF0\x9F\x99\x82", ""}));
  EXPECT_EQ(pushes(tokenizer, {2, 4}), (Texts{"",
                                              "\xEF\xBF\xBD"
                                              "a ",
                                              ""}));
  EXPECT_EQ(pushes(tokenizer, {0, 0}), (Texts{"", "\xEF\xBF\xBD", "\xEF\xBF\xBD"}));
}

TEST(Detokenizer, LlamaChainStripsOnlyTheFirstSpace) {
  auto tokenizer = tokenizer_with(R"({"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})",
                                  {"▁a", "<0xC3>", "<0xA9>", "▁▁"});
  EXPECT_EQ(pushes(tokenizer, {0, 0}), (Texts{"a", " a", ""}));
  EXPECT_EQ(pushes(tokenizer, {3, 0}), (Texts{" ", " a", ""}));
  // A run of bytes is text only as a whole, so nothing is final before it ends.
  EXPECT_EQ(pushes(tokenizer, {1, 2, 0}), (Texts{"", "", "é a", ""}));
  EXPECT_EQ(pushes(tokenizer, {1, 2, 1, 0}), (Texts{"", "", "", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD a", ""}));
  EXPECT_EQ(pushes(tokenizer, {1, 2}), (Texts{"", "", "é"}));
}

TEST(Detokenizer, MetaspaceDropsTheFirstMark) {
  auto tokenizer =
      tokenizer_with(R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"})", {"▁a", "b"});
  EXPECT_EQ(pushes(tokenizer, {0, 0, 1}), (Texts{"a", " a", "b", ""}));
}

TEST(Detokenizer, WordPieceJoinsAndCleans) {
  auto tokenizer =
      tokenizer_with(R"({"type": "WordPiece", "prefix": "##", "cleanup": true})", {"don", "##'t", ".", "go"});
  EXPECT_EQ(pushes(tokenizer, {0, 1, 3, 2}), (Texts{"don", "'t", " go", ".", ""}));
}

TEST(Detokenizer, LastWordHasNoSpaceBehind) {
  auto tokenizer = tokenizer_with(R"({"type": "BPEDecoder", "suffix": "</w>"})", {"a</w>", "b"});
  EXPECT_EQ(pushes(tokenizer, {0, 1, 0}), (Texts{"", "a ", "b", "a"}));
}

TEST(Detokenizer, LiteralAcrossTokensIsHeldBack) {
  auto tokenizer = tokenizer_with(R"({"type": "Sequence", "decoders": [{"type": "Fuse"},
      {"type": "Replace", "pattern": {"String": "abc"}, "content": "X"}]})",
                                  {"a", "b", "c", "-"});
  EXPECT_EQ(pushes(tokenizer, {0, 1, 2}), (Texts{"", "", "X", ""}));
  EXPECT_EQ(pushes(tokenizer, {0, 0, 1, 3}), (Texts{"", "a", "", "ab-", ""}));
  EXPECT_EQ(pushes(tokenizer, {0, 1}), (Texts{"", "", "ab"}));
}

TEST(Detokenizer, TrailingStripIsHeldBack) {
  auto tokenizer = tokenizer_with(R"({"type": "Sequence", "decoders": [{"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 0, "stop": 2}]})",
                                  {"a", " ", "   "});
  EXPECT_EQ(pushes(tokenizer, {0, 1, 0, 2}), (Texts{"a", "", " a", " ", ""}));
  EXPECT_EQ(pushes(tokenizer, {1, 2}), (Texts{"", "  ", ""}));
}

TEST(Detokenizer, WithoutDecoderSpacesJoin) {
  auto tokenizer = tokenizer_with("", {"a", "b"});
  EXPECT_EQ(pushes(tokenizer, {0, 1}), (Texts{"a", " b", ""}));
}

TEST(Detokenizer, FinishBeginsAnew) {
  auto tokenizer = tokenizer_with(R"({"type": "Metaspace", "replacement": "▁"})", {"▁a"});
  Detokenizer detokenizer(tokenizer, false);
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(detokenizer.push(0), "a");
    EXPECT_EQ(detokenizer.push(0), " a");
    EXPECT_EQ(detokenizer.finish(), "");
  }
}

// Random ids through every golden tokenizer: streaming equals decoding, in whole characters.
TEST(Detokenizer, RandomIds) {
  for (const char* kind : {"gpt2", "llama3", "qwen", "sentencepiece_bpe", "unigram", "wordpiece"}) {
    const Tokenizer tokenizer = Tokenizer::from_dir(oracle_data() / kind);
    uint32_t state = 12345;
    for (int round = 0; round < 200; ++round) {
      std::vector<int32_t> ids;
      for (int i = 0; i < 20; ++i) {
        state = state * 1664525u + 1013904223u;
        // The first few hundred ids hold the single bytes.
        ids.push_back(static_cast<int32_t>((state >> 8) % (round % 2 ? 300 : tokenizer.vocab_size())));
      }
      pushes(tokenizer, ids);
      EXPECT_EQ(stream(tokenizer, ids, true), tokenizer.decode(ids, true));
    }
  }
}

}  // namespace
}  // namespace ingot
