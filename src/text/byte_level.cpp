#include "text/byte_level.h"

#include <array>

#include "text/unicode.h"

namespace ingot {

namespace {

// Printable bytes of Latin-1 stand for themselves; the others take U+0100, U+0101, … in their order.
constexpr bool is_printable(unsigned byte) { return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD); }

constexpr char32_t kAlphabetEnd = 0x144;

constexpr std::array<uint16_t, 256> kCharacterOfByte = [] {
  std::array<uint16_t, 256> table{};
  uint16_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) table[byte] = is_printable(byte) ? static_cast<uint16_t>(byte) : next++;
  return table;
}();

constexpr std::array<int16_t, kAlphabetEnd> kByteOfCharacter = [] {
  std::array<int16_t, kAlphabetEnd> table{};
  table.fill(-1);
  for (unsigned byte = 0; byte < 256; ++byte) table[kCharacterOfByte[byte]] = static_cast<int16_t>(byte);
  return table;
}();

}  // namespace

char* write_byte_characters(char* out, std::string_view bytes) {
  for (char byte : bytes) {
    unsigned c = kCharacterOfByte[static_cast<unsigned char>(byte)];
    if (c < 0x80) {
      *out++ = static_cast<char>(c);
    } else {
      *out++ = static_cast<char>(0xC0 | c >> 6);
      *out++ = static_cast<char>(0x80 | (c & 0x3F));
    }
  }
  return out;
}

void append_byte_characters(std::string& text, std::string_view bytes) {
  size_t size = text.size();
  text.resize(size + 2 * bytes.size());
  char* end = write_byte_characters(text.data() + size, bytes);
  text.resize(static_cast<size_t>(end - text.data()));
}

void append_character_bytes(std::string& bytes, std::string_view text) {
  const size_t before = bytes.size();
  for (size_t at = 0; at < text.size();) {
    char32_t c = next_character(text, at);
    if (c >= kAlphabetEnd || kByteOfCharacter[c] < 0) {
      bytes.resize(before);
      bytes += text;
      return;
    }
    bytes += static_cast<char>(kByteOfCharacter[c]);
  }
}

}  // namespace ingot
