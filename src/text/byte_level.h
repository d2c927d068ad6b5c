// The byte alphabet of byte-level tokenizers: every byte is written as one printable character.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ingot {

// Writes each byte of `bytes` as its character to `out`, which has room for two bytes each; returns the end.
char* write_byte_characters(char* out, std::string_view bytes);
// Appends each byte of `bytes` as its character (UTF-8, one or two bytes each).
void append_byte_characters(std::string& text, std::string_view bytes);

// Appends the bytes that the characters of `text` stand for; when one of them is not in the alphabet, `text` as it is.
void append_character_bytes(std::string& bytes, std::string_view text);

// The first pattern that byte-level tokenizers used to cut words, in the language of tokenizer files.
inline constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace ingot
