// Arguments before they are flags: spellings, numbers, configuration files, environment.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/thread_pool.h"

namespace ingot::cli {

struct Range {
  int64_t least = INT64_MIN, most = INT64_MAX;
};
constexpr Range kThreads = {0, kMostThreads};

// "512", "8k" (8192), "1M", "4GiB", "1.5G", exactly. Throws a usage Error that names the flag.
int64_t parse_size(const std::string& text, const std::string& flag);
int64_t parse_size(const std::string& text, const std::string& flag, Range range);
uint64_t parse_count(const std::string& text, const std::string& flag);
// Positive ones, separated by commas.
std::vector<int64_t> parse_sizes(const std::string& text, const std::string& flag);

// Underscores in flag names become hyphens, `help VERB` becomes `VERB --help`, and `--config FILE` is taken out.
struct Arguments {
  std::vector<std::string> words, config_files;
};
Arguments normalized_arguments(std::vector<std::string> arguments);

// A flag of a verb, without its hyphens.
struct KnownFlag {
  std::string name;
  bool repeats = false;  // each use adds a value
};
// The flags that the JSON object in a file gives. A key that is none of the known ones is a usage Error.
std::vector<std::string> flags_of_file(const std::string& path, const std::vector<KnownFlag>& known);

// Where the verb stands, or the number of arguments when there is none.
size_t verb_position(const std::vector<std::string>& arguments);

// INGOT_THREADS, or 0. Throws a usage Error as --threads does.
int default_threads();

// 0: what INGOT_LOG says, else warnings; 1: what is decided; 2: every refusal.
void set_verbosity(int level);

// INGOT_CACHE_DIR, else the user's cache directory.
std::string cache_directory();

}  // namespace ingot::cli
