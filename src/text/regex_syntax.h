// Patterns in tokenizer files are written for Oniguruma with Ruby syntax; this rewrites one for PCRE2.
#pragma once

#include <string>
#include <string_view>

namespace ingot {

// The PCRE2 pattern (for UTF, UCP and MULTILINE mode) that matches what `pattern` matches in Oniguruma. Throws an Error
// for what has no counterpart; other mistakes in the pattern are left for the PCRE2 compiler to report.
std::string pcre2_from_oniguruma(std::string_view pattern);

// The pattern that matches exactly `text`.
std::string quote_pattern(std::string_view text);

// Items for inside [...]: characters that \w and \s stand for in tokenizer files (they differ from PCRE2's own).
inline constexpr std::string_view kWordItems = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
// What Rust's regular expressions take for characters of words.
inline constexpr std::string_view kRustWordItems = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}";
inline constexpr std::string_view kSpaceItems =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";

}  // namespace ingot
