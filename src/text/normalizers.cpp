#include "text/normalizers.h"

#include <vector>

#include "base/error.h"
#include "text/byte_level.h"
#include "text/pattern.h"
#include "text/unicode.h"

namespace ingot {

namespace {

// Rewrites the text character by character. `rewrite` appends what replaces its character and returns false when the
// character is removed.
template <class F>
void rewrite_characters(NormalizedText& value, F&& rewrite) {
  std::string result;
  result.reserve(value.text.size());
  bool kept_any = false;
  for (size_t at = 0; at < value.text.size();) {
    bool kept = rewrite(result, next_character(value.text, at));
    if (!kept && !kept_any) value.at_start = false;
    kept_any |= kept;
  }
  value.text = std::move(result);
}

template <class F>
void keep_characters(NormalizedText& value, F&& keep) {
  rewrite_characters(value, [&](std::string& out, char32_t c) {
    if (!keep(c)) return false;
    append_character(out, c);
    return true;
  });
}

void lowercase(NormalizedText& value) {
  rewrite_characters(value, [](std::string& out, char32_t c) {
    append_lowercase(out, c);
    return true;
  });
}

class UnicodeNormalizer : public Normalizer {
 public:
  explicit UnicodeNormalizer(NormalizationForm form) : form_(form) {}
  void normalize(NormalizedText& value, RegexWorkspace&) const override {
    if (!is_ascii(value.text)) value.text = normalize_unicode(value.text, form_);
  }

 private:
  NormalizationForm form_;
};

class LowercaseNormalizer : public Normalizer {
 public:
  void normalize(NormalizedText& value, RegexWorkspace&) const override { lowercase(value); }
};

class StripNormalizer : public Normalizer {
 public:
  explicit StripNormalizer(const Json& json)
      : left_(json.at("strip_left").as_bool()), right_(json.at("strip_right").as_bool()) {}
  void normalize(NormalizedText& value, RegexWorkspace&) const override {
    size_t begin = 0, end = value.text.size();
    while (left_ && begin < end) {
      size_t next = begin;
      if (!is_whitespace(next_character(value.text, next))) break;
      begin = next;
    }
    while (right_ && end > begin) {
      char32_t last = character_before(value.text, end);
      if (!is_whitespace(last)) break;
      std::string bytes;
      append_character(bytes, last);
      end -= bytes.size();
    }
    if (begin > 0) value.at_start = false;
    value.text = value.text.substr(begin, end - begin);
  }

 private:
  bool left_, right_;
};

class StripAccentsNormalizer : public Normalizer {
 public:
  void normalize(NormalizedText& value, RegexWorkspace&) const override {
    keep_characters(value, [](char32_t c) { return !is_combining_mark(c); });
  }
};

class PrependNormalizer : public Normalizer {
 public:
  explicit PrependNormalizer(const Json& json) : text_(json.at("prepend").as_string()) {}
  void normalize(NormalizedText& value, RegexWorkspace&) const override {
    if (!value.text.empty()) value.text.insert(0, text_);
  }

 private:
  std::string text_;
};

class ReplaceNormalizer : public Normalizer {
 public:
  explicit ReplaceNormalizer(const Json& json)
      : pattern_(json.at("pattern")), content_(json.at("content").as_string()) {}
  void normalize(NormalizedText& value, RegexWorkspace& workspace) const override {
    std::string result;
    size_t done = 0;
    pattern_.for_each(workspace, value.text, [&](TextRange match) {
      result.append(value.text, done, match.begin - done);
      // What replaces a beginning stands where its last character stood.
      if (result.empty() && match.end > 0) {
        size_t one = utf8_length(static_cast<unsigned char>(value.text[0]));
        value.at_start &= !content_.empty() && match.end == one;
      }
      result += content_;
      check_growth(value.text.size(), result.size());
      done = match.end;
    });
    if (done == 0 && result.empty()) return;
    result.append(value.text, done);
    value.text = std::move(result);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class BertNormalizer : public Normalizer {
 public:
  explicit BertNormalizer(const Json& json)
      : clean_text_(json.get("clean_text", true)),
        spaced_ideographs_(json.get("handle_chinese_chars", true)),
        lowercase_(json.get("lowercase", true)),
        strip_accents_(json.get("strip_accents", lowercase_)) {}

  void normalize(NormalizedText& value, RegexWorkspace&) const override {
    if (clean_text_) clean(value);
    if (spaced_ideographs_) {
      rewrite_characters(value, [](std::string& out, char32_t c) {
        bool spaced = is_cjk_ideograph(c);
        if (spaced) out += ' ';
        append_character(out, c);
        if (spaced) out += ' ';
        return true;
      });
    }
    if (strip_accents_) {
      if (!is_ascii(value.text)) value.text = normalize_unicode(value.text, NormalizationForm::kNfd);
      keep_characters(value, [](char32_t c) { return !is_nonspacing_mark(c); });
    }
    if (lowercase_) lowercase(value);
  }

 private:
  static void clean(NormalizedText& value) {
    rewrite_characters(value, [](std::string& out, char32_t c) {
      bool blank = c == '\t' || c == '\n' || c == '\r';
      if (!blank && (c == 0 || c == 0xFFFD || is_control(c))) return false;
      append_character(out, is_whitespace(c) ? U' ' : c);
      return true;
    });
  }

  bool clean_text_, spaced_ideographs_, lowercase_, strip_accents_;
};

// The rules of Google's neural machine translation: control characters go, unusual blanks become spaces.
class NmtNormalizer : public Normalizer {
 public:
  void normalize(NormalizedText& value, RegexWorkspace&) const override {
    rewrite_characters(value, [](std::string& out, char32_t c) {
      if ((c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F)
        return false;
      bool blank = c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                   c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
      append_character(out, blank ? U' ' : c);
      return true;
    });
  }
};

class ByteLevelNormalizer : public Normalizer {
 public:
  void normalize(NormalizedText& value, RegexWorkspace&) const override {
    std::string result;
    append_byte_characters(result, value.text);
    value.text = std::move(result);
  }
};

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(const Json& json) {
    for (const Json& part : json.at("normalizers").as_array()) parts_.push_back(make_normalizer(part));
  }
  void normalize(NormalizedText& value, RegexWorkspace& workspace) const override {
    const size_t before = value.text.size();
    for (const auto& part : parts_) {
      part->normalize(value, workspace);
      check_growth(before, value.text.size());
    }
  }

 private:
  std::vector<std::unique_ptr<const Normalizer>> parts_;
};

}  // namespace

std::unique_ptr<const Normalizer> make_normalizer(const Json& json) {
  const std::string& type = json.at("type").as_string();
  Scope scope("normalizer " + type);
  if (type == "NFC") return std::make_unique<UnicodeNormalizer>(NormalizationForm::kNfc);
  if (type == "NFD") return std::make_unique<UnicodeNormalizer>(NormalizationForm::kNfd);
  if (type == "NFKC") return std::make_unique<UnicodeNormalizer>(NormalizationForm::kNfkc);
  if (type == "NFKD") return std::make_unique<UnicodeNormalizer>(NormalizationForm::kNfkd);
  if (type == "Lowercase") return std::make_unique<LowercaseNormalizer>();
  if (type == "Strip") return std::make_unique<StripNormalizer>(json);
  if (type == "StripAccents") return std::make_unique<StripAccentsNormalizer>();
  if (type == "Prepend") return std::make_unique<PrependNormalizer>(json);
  if (type == "Replace") return std::make_unique<ReplaceNormalizer>(json);
  if (type == "BertNormalizer" || type == "Bert") return std::make_unique<BertNormalizer>(json);
  if (type == "Nmt") return std::make_unique<NmtNormalizer>();
  if (type == "Precompiled") return make_precompiled_normalizer(json);
  if (type == "ByteLevel") return std::make_unique<ByteLevelNormalizer>();
  if (type == "Sequence") return std::make_unique<NormalizerSequence>(json);
  fail(ErrorCode::kRuntime,
       "the type is not known; known are BertNormalizer, ByteLevel, Lowercase, NFC, NFD, NFKC, NFKD, Nmt, Precompiled, "
       "Prepend, Replace, Sequence, Strip, StripAccents");
}

}  // namespace ingot
