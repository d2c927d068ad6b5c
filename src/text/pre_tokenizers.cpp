#include "text/pre_tokenizers.h"

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "text/byte_level.h"
#include "text/metaspace.h"
#include "text/pattern.h"
#include "text/regex_syntax.h"
#include "text/unicode.h"

namespace ingot {

namespace {

void emit(PieceSink& sink, std::string_view text, TextRange range, bool at_start) {
  if (range.begin < range.end)
    sink.piece(text.substr(range.begin, range.end - range.begin), at_start && range.begin == 0);
}

// Cuts at matches that `for_each_match(found)` reports in order.
template <class F>
void cut(std::string_view text, bool at_start, SplitBehavior behavior, bool invert, PieceSink& sink,
         F&& for_each_match) {
  size_t done = 0;
  if (behavior == SplitBehavior::kIsolated) {  // nothing to merge: no list needed
    for_each_match([&](TextRange match) {
      emit(sink, text, {done, match.begin}, at_start);
      emit(sink, text, match, at_start);
      done = match.end;
    });
    emit(sink, text, {done, text.size()}, at_start);
    return;
  }
  std::vector<Stretch> stretches;
  for_each_match([&](TextRange match) {
    if (done != match.begin) stretches.push_back({{done, match.begin}, invert});
    stretches.push_back({match, !invert});
    done = match.end;
  });
  if (done != text.size()) stretches.push_back({{done, text.size()}, invert});
  apply_behavior(stretches, behavior);
  for (const Stretch& stretch : stretches) emit(sink, text, stretch.range, at_start);
}

// Cuts at every character that `is_delimiter` accepts.
template <class F>
void cut_at_characters(std::string_view text, bool at_start, SplitBehavior behavior, PieceSink& sink,
                       F&& is_delimiter) {
  cut(text, at_start, behavior, false, sink, [&](auto&& found) {
    for (size_t at = 0; at < text.size();) {
      size_t begin = at;
      if (is_delimiter(next_character(text, at))) found(TextRange{begin, at});
    }
  });
}

class ByteLevelPreTokenizer : public PreTokenizer {
 public:
  explicit ByteLevelPreTokenizer(const Json& json) : add_prefix_space_(json.get("add_prefix_space", true)) {
    if (json.get("use_regex", true)) pattern_ = Regex::from_oniguruma(kByteLevelPattern);
  }

  void split(std::string_view text, bool at_start, RegexWorkspace& workspace, PieceSink& sink) const override {
    std::string prefixed, long_piece;
    if (add_prefix_space_ && !text.starts_with(' ')) {
      prefixed.reserve(text.size() + 1);
      prefixed = ' ';
      prefixed += text;
      text = prefixed;
    }
    char short_piece[256];  // words are short: no allocation for them
    auto emit_bytes = [&](TextRange range) {
      if (range.begin == range.end) return;
      std::string_view piece = text.substr(range.begin, range.end - range.begin);
      bool begins = at_start && range.begin == 0;
      if (2 * piece.size() <= sizeof(short_piece)) {
        char* end = write_byte_characters(short_piece, piece);
        return sink.piece({short_piece, static_cast<size_t>(end - short_piece)}, begins);
      }
      long_piece.clear();
      append_byte_characters(long_piece, piece);
      sink.piece(long_piece, begins);
    };
    if (!pattern_) return emit_bytes({0, text.size()});
    size_t done = 0;
    RegexMatches matches(*pattern_, workspace, text);
    while (auto match = matches.next()) {
      emit_bytes({done, match->begin});
      emit_bytes(*match);
      done = match->end;
    }
    emit_bytes({done, text.size()});
  }

 private:
  bool add_prefix_space_;
  std::optional<Regex> pattern_;
};

class SplitPreTokenizer : public PreTokenizer {
 public:
  explicit SplitPreTokenizer(const Json& json)
      : pattern_(json.at("pattern")),
        behavior_(parse_split_behavior(json.at("behavior").as_string())),
        invert_(json.get("invert", false)) {}

  void split(std::string_view text, bool at_start, RegexWorkspace& workspace, PieceSink& sink) const override {
    cut(text, at_start, behavior_, invert_, sink, [&](auto&& found) { pattern_.for_each(workspace, text, found); });
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

class MetaspacePreTokenizer : public PreTokenizer {
 public:
  explicit MetaspacePreTokenizer(const Json& json) : options_(parse_metaspace(json)) {}

  void split(std::string_view text, bool at_start, RegexWorkspace&, PieceSink& sink) const override {
    const std::string& mark = options_.replacement;
    std::string marked;
    marked.reserve(text.size() + mark.size() + text.size() / 2);
    for (char c : text) {
      if (c == ' ')
        marked += mark;
      else
        marked += c;
    }
    bool prepend =
        options_.prepend == MetaspacePrepend::kAlways || (options_.prepend == MetaspacePrepend::kFirst && at_start);
    if (prepend && !marked.starts_with(mark)) marked.insert(0, mark);
    if (!options_.split) return sink.piece(marked, at_start);
    // Every mark begins a piece, except that the later marks of a run stand alone, as matches merged with what follows.
    std::string_view all = marked;
    cut(all, at_start, SplitBehavior::kMergedWithNext, false, sink, [&](auto&& found) {
      for (size_t at = all.find(mark); at != std::string_view::npos; at = all.find(mark, at + mark.size()))
        found(TextRange{at, at + mark.size()});
    });
  }

 private:
  MetaspaceOptions options_;
};

// Words and runs of other visible characters; whitespace is dropped.
class WhitespacePreTokenizer : public PreTokenizer {
 public:
  WhitespacePreTokenizer() : pattern_(Regex::from_pcre2(word_pattern())) {}
  void split(std::string_view text, bool at_start, RegexWorkspace& workspace, PieceSink& sink) const override {
    RegexMatches matches(pattern_, workspace, text);
    while (auto match = matches.next()) emit(sink, text, *match, at_start);
  }

 private:
  static std::string word_pattern() {
    std::string word(kRustWordItems);
    return "[" + word + "]+|[^" + word + std::string(kSpaceItems) + "]+";
  }
  Regex pattern_;
};

class WhitespaceSplitPreTokenizer : public PreTokenizer {
 public:
  void split(std::string_view text, bool at_start, RegexWorkspace&, PieceSink& sink) const override {
    cut_at_characters(text, at_start, SplitBehavior::kRemoved, sink, is_whitespace);
  }
};

class BertPreTokenizer : public PreTokenizer {
 public:
  void split(std::string_view text, bool at_start, RegexWorkspace&, PieceSink& sink) const override {
    size_t begin = 0;  // of the word that is being read
    for (size_t at = 0; at < text.size();) {
      size_t here = at;
      char32_t c = next_character(text, at);
      bool space = is_whitespace(c);
      if (!space && !is_punctuation(c)) continue;
      emit(sink, text, {begin, here}, at_start);
      if (!space) emit(sink, text, {here, at}, at_start);
      begin = at;
    }
    emit(sink, text, {begin, text.size()}, at_start);
  }
};

class PunctuationPreTokenizer : public PreTokenizer {
 public:
  explicit PunctuationPreTokenizer(const Json& json)
      : behavior_(parse_split_behavior(json.get("behavior", "Isolated"))) {}
  void split(std::string_view text, bool at_start, RegexWorkspace&, PieceSink& sink) const override {
    cut_at_characters(text, at_start, behavior_, sink, is_punctuation);
  }

 private:
  SplitBehavior behavior_;
};

class DigitsPreTokenizer : public PreTokenizer {
 public:
  explicit DigitsPreTokenizer(const Json& json)
      : behavior_(json.at("individual_digits").as_bool() ? SplitBehavior::kIsolated : SplitBehavior::kContiguous) {}
  void split(std::string_view text, bool at_start, RegexWorkspace&, PieceSink& sink) const override {
    cut_at_characters(text, at_start, behavior_, sink, is_numeric);
  }

 private:
  SplitBehavior behavior_;
};

class CharDelimiterPreTokenizer : public PreTokenizer {
 public:
  explicit CharDelimiterPreTokenizer(const Json& json)
      : delimiter_(single_character(json.at("delimiter").as_string())) {}
  void split(std::string_view text, bool at_start, RegexWorkspace&, PieceSink& sink) const override {
    cut_at_characters(text, at_start, SplitBehavior::kRemoved, sink, [&](char32_t c) { return c == delimiter_; });
  }

 private:
  char32_t delimiter_;
};

class FixedLengthPreTokenizer : public PreTokenizer {
 public:
  explicit FixedLengthPreTokenizer(const Json& json) : length_(json.get("length", 5)) {
    if (length_ < 1) fail(ErrorCode::kRuntime, "found the length {}; needed at least 1", length_);
  }
  void split(std::string_view text, bool at_start, RegexWorkspace&, PieceSink& sink) const override {
    size_t begin = 0;
    int64_t count = 0;
    for (size_t at = 0; at < text.size();) {
      next_character(text, at);
      if (++count < length_) continue;
      emit(sink, text, {begin, at}, at_start);
      begin = at;
      count = 0;
    }
    emit(sink, text, {begin, text.size()}, at_start);
  }

 private:
  int64_t length_;
};

class PreTokenizerSequence : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(const Json& json) {
    for (const Json& part : json.at("pretokenizers").as_array()) parts_.push_back(make_pre_tokenizer(part));
  }
  void split(std::string_view text, bool at_start, RegexWorkspace& workspace, PieceSink& sink) const override {
    run(0, text, at_start, workspace, sink);
  }

 private:
  // Hands each piece of one part to the next part at once, so that no list of pieces exists.
  struct Chain : PieceSink {
    Chain(const PreTokenizerSequence& all, size_t next, RegexWorkspace& workspace, PieceSink& last)
        : all_(all), next_(next), workspace_(workspace), last_(last) {}
    void piece(std::string_view text, bool at_start) override { all_.run(next_, text, at_start, workspace_, last_); }
    const PreTokenizerSequence& all_;
    size_t next_;
    RegexWorkspace& workspace_;
    PieceSink& last_;
  };
  void run(size_t part, std::string_view text, bool at_start, RegexWorkspace& workspace, PieceSink& last) const {
    if (part == parts_.size()) return last.piece(text, at_start);
    if (part + 1 == parts_.size()) return parts_[part]->split(text, at_start, workspace, last);
    Chain chain(*this, part + 1, workspace, last);
    parts_[part]->split(text, at_start, workspace, chain);
  }

  std::vector<std::unique_ptr<const PreTokenizer>> parts_;
};

}  // namespace

std::unique_ptr<const PreTokenizer> make_pre_tokenizer(const Json& json) {
  const std::string& type = json.at("type").as_string();
  Scope scope("pre_tokenizer " + type);
  if (type == "ByteLevel") return std::make_unique<ByteLevelPreTokenizer>(json);
  if (type == "Split") return std::make_unique<SplitPreTokenizer>(json);
  if (type == "Metaspace") return std::make_unique<MetaspacePreTokenizer>(json);
  if (type == "Whitespace") return std::make_unique<WhitespacePreTokenizer>();
  if (type == "WhitespaceSplit") return std::make_unique<WhitespaceSplitPreTokenizer>();
  if (type == "BertPreTokenizer") return std::make_unique<BertPreTokenizer>();
  if (type == "Punctuation") return std::make_unique<PunctuationPreTokenizer>(json);
  if (type == "Digits") return std::make_unique<DigitsPreTokenizer>(json);
  if (type == "CharDelimiterSplit" || type == "Delimiter") return std::make_unique<CharDelimiterPreTokenizer>(json);
  if (type == "FixedLength") return std::make_unique<FixedLengthPreTokenizer>(json);
  if (type == "Sequence") return std::make_unique<PreTokenizerSequence>(json);
  if (type == "UnicodeScripts") fail(ErrorCode::kRuntime, "cutting at changes of the script is not supported");
  fail(ErrorCode::kRuntime,
       "the type is not known; known are BertPreTokenizer, ByteLevel, CharDelimiterSplit, Digits, FixedLength, "
       "Metaspace, Punctuation, Sequence, Split, Whitespace, WhitespaceSplit");
}

}  // namespace ingot
