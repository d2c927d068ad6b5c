// Regular expressions over UTF-8 (PCRE2, compiled to machine code where the system allows it).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "text/unicode_versions.h"

namespace ingot {

// What one thread needs to run any Regex: match data, limits, a stack. Reused from call to call.
class RegexWorkspace {
 public:
  RegexWorkspace();
  ~RegexWorkspace();
  RegexWorkspace(const RegexWorkspace&) = delete;
  RegexWorkspace& operator=(const RegexWorkspace&) = delete;

 private:
  friend class Regex;
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

struct TextRange {
  size_t begin, end;
  bool operator==(const TextRange&) const = default;
};

// A compiled pattern; immutable and shared freely between threads.
class Regex {
 public:
  // Throws an Error that names the pattern and the mistake. `pattern` is in PCRE2's language.
  static Regex from_pcre2(const std::string& pattern);
  // `pattern` is in the language of tokenizer files.
  static Regex from_oniguruma(std::string_view pattern);

  // The first match that begins at `start` or later. `text` is valid UTF-8, `start` the beginning of a character or the
  // end. Throws an Error when the pattern needs unreasonably many steps on this text.
  std::optional<TextRange> find(RegexWorkspace& workspace, std::string_view text, size_t start) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

// All matches of a text from left to right. An empty match right behind the previous match does not count.
class RegexMatches {
 public:
  RegexMatches(const Regex& regex, RegexWorkspace& workspace, std::string_view text)
      : regex_(regex), workspace_(workspace), text_(replace_young_characters(text, copy_) ? copy_ : text) {}
  RegexMatches(const RegexMatches&) = delete;
  RegexMatches& operator=(const RegexMatches&) = delete;
  std::optional<TextRange> next();

 private:
  const Regex& regex_;
  RegexWorkspace& workspace_;
  std::string copy_;
  std::string_view text_;
  size_t position_ = 0;
  size_t last_end_ = std::string_view::npos;
};

}  // namespace ingot
