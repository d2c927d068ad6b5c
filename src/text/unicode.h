// UTF-8 and the Unicode facts that tokenizers need: reading and writing code points, repairing invalid bytes,
// character classes, normalization forms. Functions on text expect valid UTF-8 unless they say otherwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ingot {

constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// The length of the character whose first byte is `lead`: 1 … 4.
constexpr size_t utf8_length(unsigned char lead) { return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4; }

// The code point at `position`, which moves behind it.
inline char32_t next_character(std::string_view text, size_t& position) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data()) + position;
  size_t length = utf8_length(bytes[0]);
  position += length;
  if (length == 1) return bytes[0];
  if (length == 2) return char32_t(bytes[0] & 0x1F) << 6 | (bytes[1] & 0x3F);
  if (length == 3) return char32_t(bytes[0] & 0x0F) << 12 | char32_t(bytes[1] & 0x3F) << 6 | (bytes[2] & 0x3F);
  return char32_t(bytes[0] & 0x07) << 18 | char32_t(bytes[1] & 0x3F) << 12 | char32_t(bytes[2] & 0x3F) << 6 |
         (bytes[3] & 0x3F);
}

inline void append_character(std::string& text, char32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
  } else if (c < 0x800) {
    text += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
  } else if (c < 0x10000) {
    text += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
             static_cast<char>(0x80 | (c & 0x3F))};
  } else {
    text += {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3F)),
             static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
  }
}

// The first code point of the character that ends at `end`.
char32_t character_before(std::string_view text, size_t end);

size_t count_characters(std::string_view text);
bool is_ascii(std::string_view text);
// The number of bytes from `position` on that are ASCII, up to the first that is not.
size_t ascii_run(std::string_view text, size_t position);

// What the bytes at a place in arbitrary data are. `size` bytes belong together: a whole character, the longest
// beginning of one that is broken off by a wrong byte, or one whose end lies beyond the data.
struct Utf8Piece {
  enum Kind { kCharacter, kInvalid, kIncomplete } kind;
  size_t size;
};
Utf8Piece classify_utf8(std::string_view bytes, size_t position);

bool is_valid_utf8(std::string_view bytes);
// Appends `bytes` with each invalid piece replaced by U+FFFD.
void append_repaired_utf8(std::string& text, std::string_view bytes);

bool is_whitespace(char32_t c);       // property White_Space
bool is_numeric(char32_t c);          // Nd, Nl, No
bool is_punctuation(char32_t c);      // P*, and ASCII symbols
bool is_control(char32_t c);          // Cc, Cf, Co
bool is_combining_mark(char32_t c);   // M*
bool is_nonspacing_mark(char32_t c);  // Mn
bool is_cjk_ideograph(char32_t c);    // the blocks that BERT surrounds with spaces
void append_lowercase(std::string& text, char32_t c);

enum class NormalizationForm { kNfc, kNfd, kNfkc, kNfkd };
std::string normalize_unicode(std::string_view text, NormalizationForm form);

// The end of the extended grapheme cluster that begins at `position`.
size_t grapheme_end(std::string_view text, size_t position);

}  // namespace ingot
