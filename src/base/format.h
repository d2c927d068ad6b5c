// Text formatting: fmt's small header only. Its heavy half is compiled once, in format.cpp.
#pragma once

#include <fmt/core.h>

#include <string>
#include <string_view>
#include <vector>

namespace ingot {

using fmt::format;
using fmt::format_string;

// The shortest decimal text that reads back as exactly `value` ("1e-05", "0.5", "8").
std::string print_float(float value);
std::string print_float(double value);

// "1.5 GiB", "312 MiB", "17 B".
std::string print_bytes(double bytes);

// "a, b, c".
std::string join(const std::vector<std::string>& parts, std::string_view separator = ", ");

// The member of `candidates` with the smallest edit distance to `word`; empty when there are none.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace ingot
