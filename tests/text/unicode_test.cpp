#include "text/unicode.h"

#include <gtest/gtest.h>

#include "text/trie.h"
#include "text/vocabulary.h"

namespace ingot {
namespace {

std::string repaired(std::string_view bytes) {
  std::string text;
  append_repaired_utf8(text, bytes);
  return text;
}

constexpr const char* kBad = "\xEF\xBF\xBD";

TEST(Unicode, RepairsByMaximalParts) {
  auto bad = [](int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += kBad;
    return text;
  };
  EXPECT_EQ(repaired("plain é 漢 \xF0\x9F\x99\x82"), "plain é 漢 \xF0\x9F\x99\x82");
  EXPECT_EQ(repaired("\x80"), bad(1));
  EXPECT_EQ(repaired("\xC0\xAF"), bad(2));          // overlong
  EXPECT_EQ(repaired("\xE0\x80\xAF"), bad(3));      // overlong
  EXPECT_EQ(repaired("\xED\xA0\x80"), bad(3));      // surrogate
  EXPECT_EQ(repaired("\xF4\x90\x80\x80"), bad(4));  // beyond U+10FFFF
  EXPECT_EQ(repaired("\xF0\x9F\x99"), bad(1));      // broken off by the end
  EXPECT_EQ(repaired("\xF0\x9F\x99z"), bad(1) + "z");
  EXPECT_EQ(repaired("\xE2\x82\xE2\x82\xAC"), bad(1) + "€");
}

TEST(Unicode, NormalizationForms) {
  EXPECT_EQ(normalize_unicode("cafe\xCC\x81 x", NormalizationForm::kNfc), "café x");
  EXPECT_EQ(normalize_unicode("café", NormalizationForm::kNfd), "cafe\xCC\x81");
  EXPECT_EQ(normalize_unicode("ﬁ①", NormalizationForm::kNfkc), "fi1");
  EXPECT_EQ(normalize_unicode("가", NormalizationForm::kNfkd), "\xE1\x84\x80\xE1\x85\xA1");
  EXPECT_EQ(normalize_unicode("", NormalizationForm::kNfc), "");
}

TEST(Unicode, Lowercase) {
  auto lower = [](char32_t c) {
    std::string text;
    append_lowercase(text, c);
    return text;
  };
  EXPECT_EQ(lower(U'A'), "a");
  EXPECT_EQ(lower(0x130), "i\xCC\x87");
  EXPECT_EQ(lower(0x3A3), "σ");
  EXPECT_EQ(lower(0x1F642), "\xF0\x9F\x99\x82");
}

TEST(Unicode, Graphemes) {
  std::string_view text = "e\xCC\x81\r\nx";
  EXPECT_EQ(grapheme_end(text, 0), 3u);
  EXPECT_EQ(grapheme_end(text, 3), 5u);
  EXPECT_EQ(grapheme_end(text, 5), 6u);
}

TEST(Trie, FindsTheLongest) {
  Trie trie({{"a", 1}, {"abc", 2}, {"b", 3}, {"abc", 4}, {"", 9}});
  EXPECT_EQ(trie.longest("abcd").value, 4);  // of equal strings the last
  EXPECT_EQ(trie.longest("abcd").size, 3u);
  EXPECT_EQ(trie.longest("abx").size, 1u);
  EXPECT_EQ(trie.longest("x").value, Trie::kNone);
  EXPECT_EQ(trie.descend(Trie::kRoot, "ab") == Trie::kNowhere, false);
  EXPECT_EQ(trie.descend(Trie::kRoot, "ac"), Trie::kNowhere);
  EXPECT_EQ(Trie().longest("a").value, Trie::kNone);
}

TEST(Vocabulary, BothWays) {
  Vocabulary vocabulary;
  for (int32_t i = 0; i < 5000; ++i) vocabulary.add("t" + std::to_string(i), 2 * i);
  EXPECT_EQ(vocabulary.size(), 5000u);
  EXPECT_EQ(vocabulary.id("t4999"), 9998);
  EXPECT_EQ(vocabulary.token(9998), "t4999");
  EXPECT_EQ(vocabulary.token(9997), std::nullopt);
  EXPECT_EQ(vocabulary.id("t5000"), Vocabulary::kNone);
  vocabulary.add("t1", 7);
  EXPECT_EQ(vocabulary.id("t1"), 7);
  EXPECT_EQ(vocabulary.size(), 5000u);
}

}  // namespace
}  // namespace ingot
