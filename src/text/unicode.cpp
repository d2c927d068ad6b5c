#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "text/unicode_versions.h"

namespace ingot {

namespace {

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool is_ascii_byte(char byte) { return static_cast<unsigned char>(byte) < 0x80; }

int form_options(NormalizationForm form) {
  switch (form) {
    case NormalizationForm::kNfc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    case NormalizationForm::kNfd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    case NormalizationForm::kNfkc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    case NormalizationForm::kNfkd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
  }
  return 0;
}

void append_normalized(std::string& result, std::string_view text, int options) {
  utf8proc_uint8_t* mapped = nullptr;
  utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &mapped, static_cast<utf8proc_option_t>(options));
  std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  if (size < 0) fail(ErrorCode::kRuntime, "Unicode normalization failed: {}", utf8proc_errmsg(size));
  result.append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
}

}  // namespace

size_t ascii_run(std::string_view text, size_t position) {
  size_t end = position;
  for (; end + 8 <= text.size(); end += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + end, 8);
    if (word & 0x8080808080808080u) break;
  }
  while (end < text.size() && is_ascii_byte(text[end])) ++end;
  return end - position;
}

char32_t character_before(std::string_view text, size_t end) {
  size_t start = end - 1;
  while (start > 0 && (text[start] & 0xC0) == 0x80) --start;
  return next_character(text, start);
}

size_t count_characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char byte) { return (byte & 0xC0) != 0x80; }));
}

bool is_ascii(std::string_view text) { return ascii_run(text, 0) == text.size(); }

Utf8Piece classify_utf8(std::string_view bytes, size_t position) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[position + i]); };
  const size_t available = bytes.size() - position;
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {Utf8Piece::kCharacter, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8Piece::kInvalid, 1};
  const size_t length = utf8_length(lead);
  for (size_t i = 1; i < length; ++i) {
    if (i == available) return {Utf8Piece::kIncomplete, i};
    // The second byte has narrower limits: no overlong forms, no surrogates, nothing beyond U+10FFFF.
    unsigned char low = 0x80, high = 0xBF;
    if (i == 1 && lead == 0xE0) low = 0xA0;
    if (i == 1 && lead == 0xED) high = 0x9F;
    if (i == 1 && lead == 0xF0) low = 0x90;
    if (i == 1 && lead == 0xF4) high = 0x8F;
    if (byte(i) < low || byte(i) > high) return {Utf8Piece::kInvalid, i};
  }
  return {Utf8Piece::kCharacter, length};
}

bool is_valid_utf8(std::string_view bytes) {
  for (size_t i = 0; i < bytes.size();) {
    i += ascii_run(bytes, i);
    if (i == bytes.size()) break;
    Utf8Piece piece = classify_utf8(bytes, i);
    if (piece.kind != Utf8Piece::kCharacter) return false;
    i += piece.size;
  }
  return true;
}

void append_repaired_utf8(std::string& text, std::string_view bytes) {
  for (size_t i = 0; i < bytes.size();) {
    size_t run = ascii_run(bytes, i);
    text += bytes.substr(i, run);
    i += run;
    if (i == bytes.size()) break;
    Utf8Piece piece = classify_utf8(bytes, i);
    text += piece.kind == Utf8Piece::kCharacter ? bytes.substr(i, piece.size) : kReplacementCharacter;
    i += piece.size;
  }
}

bool is_whitespace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0D);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  utf8proc_category_t kind = category(c);
  bool known = kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO;
  return known || is_young_number(c);
}

bool is_punctuation(char32_t c) {
  if (c < 0x80) return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
  utf8proc_category_t kind = category(c);
  bool known = kind >= UTF8PROC_CATEGORY_PC && kind <= UTF8PROC_CATEGORY_PO && !excluded_from_punctuation(c);
  return known || c == 0x166D || c == 0x111C9;  // these were punctuation once
}

bool is_control(char32_t c) {
  if (c < 0x80) return c < 0x20 || c == 0x7F;
  utf8proc_category_t kind = category(c);
  bool known = kind == UTF8PROC_CATEGORY_CC || kind == UTF8PROC_CATEGORY_CF || kind == UTF8PROC_CATEGORY_CO;
  return known && !excluded_from_controls(c);
}

bool is_combining_mark(char32_t c) {
  utf8proc_category_t kind = category(c);
  bool known = kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_MC || kind == UTF8PROC_CATEGORY_ME;
  return (known && !excluded_from_combining_marks(c)) || c == 0x1CF2 || c == 0x1CF3;  // these were marks once
}

bool is_nonspacing_mark(char32_t c) {
  bool known = category(c) == UTF8PROC_CATEGORY_MN && !excluded_from_nonspacing_marks(c);
  return known || c == 0x1734;  // it was one once
}

bool is_cjk_ideograph(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

void append_lowercase(std::string& text, char32_t c) {
  if (c == 0x130) {  // the one character whose lower case is two characters, which simple case mapping does not know
    text += "i\xCC\x87";
    return;
  }
  if (char32_t lower = c < 0x80 ? 0 : young_lowercase(c)) return append_character(text, lower);
  append_character(text, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

std::string normalize_unicode(std::string_view text, NormalizationForm form) {
  const int options = form_options(form);
  std::string result;
  result.reserve(text.size());
  size_t position = 0;
  while (position < text.size()) {
    size_t run = ascii_run(text, position);
    if (position + run == text.size()) {
      result += text.substr(position);
      break;
    }
    // Two ASCII characters never interact, but the last one may take the combining marks that follow it.
    size_t plain = run == 0 ? 0 : run - 1;
    result += text.substr(position, plain);
    size_t begin = position + plain, end = position + run;
    size_t next = end;  // behind a character that is copied as it is
    while (end < text.size() && !is_ascii_byte(text[end])) {
      next = end;
      if (excluded_from_decomposition(next_character(text, next))) break;
      end = next;
    }
    append_normalized(result, text.substr(begin, end - begin), options);
    result += text.substr(end, std::max(next, end) - end);
    position = std::max(next, end);
  }
  return result;
}

size_t grapheme_end(std::string_view text, size_t position) {
  utf8proc_int32_t state = 0;
  auto previous = static_cast<utf8proc_int32_t>(next_character(text, position));
  while (position < text.size()) {
    size_t next = position;
    auto current = static_cast<utf8proc_int32_t>(next_character(text, next));
    if (utf8proc_grapheme_break_stateful(previous, current, &state)) break;
    previous = current;
    position = next;
  }
  return position;
}

}  // namespace ingot
