// Unicode grows, and the libraries do not grow together. Published tokenizers were made with the Rust crates and the
// Oniguruma of the `tokenizers` library; PCRE2 10.42 knows Unicode 14 and utf8proc 2.8 knows Unicode 15. These are the
// characters on which they differ, found by asking each about every code point, so that equal text gives equal ids.
#pragma once

#include <string>
#include <string_view>

namespace ingot {

// Characters of a category (as utf8proc has it) that tokenizers do not count to it.
bool excluded_from_punctuation(char32_t c);
bool excluded_from_nonspacing_marks(char32_t c);
bool excluded_from_combining_marks(char32_t c);
bool excluded_from_controls(char32_t c);
bool excluded_from_decomposition(char32_t c);

// Numbers that utf8proc does not know yet.
bool is_young_number(char32_t c);
// The lower case of characters that utf8proc does not know yet or maps otherwise; 0 for all others.
char32_t young_lowercase(char32_t c);

// Puts in `copy` the text with every character that PCRE2 does not know yet replaced by an older one of the same kind
// and the same length, so that matches in the copy are matches in the text. False when there is no such character.
bool replace_young_characters(std::string_view text, std::string& copy);

}  // namespace ingot
