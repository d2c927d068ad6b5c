// The patterns of Split and Replace: a literal string or a regular expression; and cutting a text at its matches.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/regex.h"

namespace ingot {

class Pattern {
 public:
  // From {"String": "…"} or {"Regex": "…"}.
  explicit Pattern(const Json& json);
  explicit Pattern(Regex regex) : regex_(std::move(regex)) {}

  // Calls `found` for each match from left to right.
  template <class F>
  void for_each(RegexWorkspace& workspace, std::string_view text, F&& found) const {
    if (regex_) {
      RegexMatches matches(*regex_, workspace, text);
      while (auto match = matches.next()) found(*match);
      return;
    }
    for (size_t at = text.find(literal_); at != std::string_view::npos; at = text.find(literal_, at + literal_.size()))
      found(TextRange{at, at + literal_.size()});
  }
  std::string replace(RegexWorkspace& workspace, std::string_view text, std::string_view content) const;
  // The string that is searched for, or nullptr when the pattern is a regular expression.
  const std::string* literal() const { return regex_ ? nullptr : &literal_; }

 private:
  std::string literal_;  // not empty, unless there is a regex
  std::optional<Regex> regex_;
};

// Replacing may lengthen a text, and a chain of replacements exponentially. Throws an Error when a text of `before`
// bytes has grown beyond all that real tokenizers do.
void check_growth(size_t before, size_t now);

// What happens to the matches at which a text is cut.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
SplitBehavior parse_split_behavior(const std::string& name);

// A stretch of text that a pattern matched or skipped.
struct Stretch {
  TextRange range;
  bool is_match;
};

// Merges and drops stretches, which together cover a text, as the behaviour asks. What is left are the pieces.
void apply_behavior(std::vector<Stretch>& stretches, SplitBehavior behavior);

}  // namespace ingot
