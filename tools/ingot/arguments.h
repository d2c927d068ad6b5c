// Arguments before they are flags: spellings, numbers, configuration files, environment.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ingot::cli {

// "512", "8k" (8192), "1M", "4GiB", "1.5G". Throws a usage Error that names the flag.
int64_t parse_size(const std::string& text, const std::string& flag);
std::vector<int64_t> parse_sizes(const std::string& text, const std::string& flag);

// Underscores in flag names become hyphens and -O3 becomes --opt-level=3; `--config FILE` is replaced by the flags that
// the JSON object in FILE gives, placed before the others so that the command line wins.
std::vector<std::string> normalized_arguments(std::vector<std::string> arguments);

// Where the verb stands, or the number of arguments when there is none.
size_t verb_position(const std::vector<std::string>& arguments);

// INGOT_THREADS, or 0.
int default_threads();

// 0: warnings, 1: what is decided, 2: every refusal. INGOT_LOG overrides 0.
void set_verbosity(int level);

// INGOT_CACHE_DIR, else the user's cache directory.
std::string cache_directory();

}  // namespace ingot::cli
