#include "text/pattern.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "text/regex_syntax.h"

namespace ingot {

Pattern::Pattern(const Json& json) {
  if (const Json* text = json.find("String")) {
    literal_ = text->as_string();
    if (literal_.empty()) regex_ = Regex::from_pcre2("");  // matches at every place
  } else if (const Json* text = json.find("Regex")) {
    regex_ = Regex::from_oniguruma(text->as_string());
  } else {
    fail(ErrorCode::kRuntime, "found the pattern {}; needed {{\"String\": …}} or {{\"Regex\": …}}", json.dump());
  }
}

std::string Pattern::replace(RegexWorkspace& workspace, std::string_view text, std::string_view content) const {
  std::string result;
  size_t done = 0;
  for_each(workspace, text, [&](TextRange match) {
    result += text.substr(done, match.begin - done);
    result += content;
    check_growth(text.size(), result.size());
    done = match.end;
  });
  result += text.substr(done);
  return result;
}

void check_growth(size_t before, size_t now) {
  constexpr size_t kMaxFactor = 256, kFreeBytes = 1 << 20;
  if (now > kFreeBytes + kMaxFactor * before)
    fail(ErrorCode::kRuntime, "replacements make {} bytes out of a text of {}; the tokenizer is damaged", now, before);
}

SplitBehavior parse_split_behavior(const std::string& name) {
  constexpr auto kNames =
      std::to_array<std::string_view>({"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"});
  auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end())
    fail(ErrorCode::kRuntime, "found the split behavior \"{}\"; needed one of {}", name,
         join({kNames.begin(), kNames.end()}));
  return static_cast<SplitBehavior>(found - kNames.begin());
}

void apply_behavior(std::vector<Stretch>& stretches, SplitBehavior behavior) {
  std::vector<Stretch> kept;
  kept.reserve(stretches.size());
  // A match joins the piece beside it, unless that neighbour is itself a match.
  auto merge_matches = [&](auto begin, auto end, auto&& extend) {
    bool after_match = false;
    for (auto it = begin; it != end; ++it) {
      if (it->is_match && !after_match && !kept.empty())
        extend(kept.back().range, it->range);
      else
        kept.push_back(*it);
      after_match = it->is_match;
    }
  };
  switch (behavior) {
    case SplitBehavior::kIsolated:
      return;
    case SplitBehavior::kRemoved:
      std::erase_if(stretches, [](const Stretch& s) { return s.is_match; });
      return;
    case SplitBehavior::kContiguous: {
      bool previous = false;
      for (const Stretch& stretch : stretches) {
        if (stretch.is_match == previous && !kept.empty())
          kept.back().range.end = stretch.range.end;
        else
          kept.push_back(stretch);
        previous = stretch.is_match;
      }
      break;
    }
    case SplitBehavior::kMergedWithPrevious:
      merge_matches(stretches.begin(), stretches.end(),
                    [](TextRange& piece, TextRange match) { piece.end = match.end; });
      break;
    case SplitBehavior::kMergedWithNext:
      merge_matches(stretches.rbegin(), stretches.rend(),
                    [](TextRange& piece, TextRange match) { piece.begin = match.begin; });
      std::reverse(kept.begin(), kept.end());
      break;
  }
  stretches = std::move(kept);
}

}  // namespace ingot
