// The language of tokenizer patterns where it differs from PCRE2's, and the iteration over matches.
#include "text/regex.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "text/regex_syntax.h"

namespace ingot {
namespace {

std::string matches(std::string_view pattern, std::string_view text) {
  RegexWorkspace workspace;
  Regex regex = Regex::from_oniguruma(pattern);
  RegexMatches all(regex, workspace, text);
  std::string result;
  while (auto match = all.next())
    result += "[" + std::string(text.substr(match->begin, match->end - match->begin)) + "]";
  return result;
}

TEST(RegexSyntax, Quantifiers) {
  EXPECT_EQ(matches("\\d{1,3}+", "1234567"), "[1234567]");  // not possessive: the repetition repeats
  EXPECT_EQ(matches("a{2}?b", "ab aab"), "[b][aab]");       // not lazy: optional
  EXPECT_EQ(matches("a{,2}b", "aaab"), "[aab]");
  EXPECT_EQ(matches("a{1,2}?", "aaa"), "[a][a][a]");
  EXPECT_EQ(matches("a{x}", "a{x}"), "[a{x}]");
  EXPECT_EQ(matches("a++a|b", "aab"), "[b]");  // possessive
  EXPECT_EQ(matches("(?:ab)**", "abab"), "[abab]");
}

TEST(RegexSyntax, Sets) {
  EXPECT_EQ(matches("\\s+", "a \t\n\x0B\xC2\x85\xC2\xA0\xE3\x80\x80z\xE1\xA0\x8E"),
            "[ \t\n\x0B\xC2\x85\xC2\xA0\xE3\x80\x80]");
  EXPECT_EQ(matches("\\w+", "a_1é\xCC\x81 ½‿ ①"), "[a_1é\xCC\x81][½‿]");
  EXPECT_EQ(matches("[\\w]+", "a½"), "[a]");  // inside of a class fractions do not count
  EXPECT_EQ(matches("\\h+", "0aFg\t"), "[0aF]");
  EXPECT_EQ(matches("\\v", "a\x0B\n"), "[\x0B]");
  EXPECT_EQ(matches("[^\\S\\n]+", " \t\n "), "[ \t][ ]");
  EXPECT_EQ(matches("[\\W\\d]+", "a1-b"), "[1-]");
  EXPECT_EQ(matches("\\bo\\B", "o on no oo"), "[o][o]");
  EXPECT_EQ(matches("\\p{Han}+", "漢字。かな"), "[漢字]");
  EXPECT_EQ(matches("\\p{^Greek}+", "abγδ"), "[ab]");
  EXPECT_EQ(matches("[[:alpha:][:digit:]]+", "a1-é2"), "[a1][é2]");
  EXPECT_EQ(matches("\\p{Uppercase_Letter}|\\p{Nd}", "aB1"), "[B][1]");
}

TEST(RegexSyntax, Classes) {
  EXPECT_EQ(matches("[a-z&&[^aeiou]]+", "abcde"), "[bcd]");
  EXPECT_EQ(matches("[^a-z&&[^aeiou]]+", "abce-"), "[a][e-]");
  EXPECT_EQ(matches("[a[xy]]+", "axbya"), "[ax][ya]");
  EXPECT_EQ(matches("[^a[xy]]+", "axbya"), "[b]");
  EXPECT_EQ(matches("[\\s-]+", "a - b"), "[ - ]");
  EXPECT_EQ(matches("[]a]+", "]a["), "[]a]");
  EXPECT_EQ(matches("[\\p{L}&&[^\\p{Han}]]+", "ab漢cd"), "[ab][cd]");
}

TEST(RegexSyntax, Anchors) {
  EXPECT_EQ(matches("^.", "ab\ncd"), "[a][c]");
  EXPECT_EQ(matches(".$", "ab\ncd"), "[b][d]");
  EXPECT_EQ(matches("(?m:a.b)", "a\nb"), "[a\nb]");
  EXPECT_EQ(matches("\\Aa|b\\z", "aab"), "[a][b]");
}

TEST(RegexSyntax, Numbers) {
  EXPECT_EQ(matches("\\u00e9|\\x{1F642}|\\x41",
                    "é\xF0\x9F\x99\x82"
                    "A"),
            "[é][\xF0\x9F\x99\x82][A]");
}

TEST(RegexSyntax, EmptyMatches) {
  EXPECT_EQ(matches("x*", "axb"), "[][x][]");
  EXPECT_EQ(matches("", "é"), "[][]");
}

// A character of Unicode 15.1, younger than the tables of PCRE2.
TEST(RegexSyntax, YoungCharacters) { EXPECT_EQ(matches("\\p{L}+", "-\xF0\xAE\xAF\xB0-"), "[\xF0\xAE\xAF\xB0]"); }

TEST(RegexSyntax, Refusals) {
  EXPECT_THROW(Regex::from_oniguruma("(?~a)"), Error);
  EXPECT_THROW(Regex::from_oniguruma("[a"), Error);
  EXPECT_THROW(Regex::from_oniguruma("\\p{NoSuchThing}"), Error);
  EXPECT_THROW(Regex::from_oniguruma("a\\"), Error);
  EXPECT_THROW(Regex::from_oniguruma(std::string(100, '[')), Error);
}

}  // namespace
}  // namespace ingot
