#include "arguments.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mapped_file.h"

namespace ingot::cli {

namespace {

struct Unit {
  const char* suffix;
  uint64_t factor;
};
constexpr uint64_t kKibi = 1024, kMebi = kKibi * kKibi, kGibi = kKibi * kMebi, kTebi = kKibi * kGibi;
constexpr Unit kUnits[] = {{"", 1},        {"k", kKibi},    {"K", kKibi},      {"KiB", kKibi}, {"M", kMebi},
                           {"MiB", kMebi}, {"G", kGibi},    {"GiB", kGibi},    {"T", kTebi},   {"TiB", kTebi},
                           {"kB", 1000},   {"MB", 1000000}, {"GB", 1000000000}};

// The magnitude of a number and its unit, exactly; nullopt when it is not whole or beyond 64 bits.
std::optional<uint64_t> whole_number(std::string_view text) {
  const char *begin = text.data(), *end = begin + text.size();
  uint64_t whole = 0;
  double real = 0;
  auto [whole_end, whole_error] = std::from_chars(begin, end, whole);
  auto [real_end, real_error] = std::from_chars(begin, end, real, std::chars_format::fixed);
  if (real_error != std::errc() || text.starts_with("-")) return std::nullopt;
  for (const Unit& unit : kUnits) {
    if (std::string_view(real_end, static_cast<size_t>(end - real_end)) != unit.suffix) continue;
    if (whole_end == real_end) {  // without a decimal point
      if (whole_error != std::errc() || whole > UINT64_MAX / unit.factor) return std::nullopt;
      return whole * unit.factor;
    }
    const double value = real * static_cast<double>(unit.factor);
    constexpr double kExact = 1ull << 53;
    if (value != std::floor(value) || value > kExact) return std::nullopt;
    return static_cast<uint64_t>(value);
  }
  return std::nullopt;
}

std::string scalar_text(const Json& value) {
  if (value.is_array() || value.is_object())
    fail(ErrorCode::kUsage, "found {}, needed text, a number or a boolean", value.dump());
  return value.is_string() ? value.as_string() : value.dump();
}

std::string flag_text(const Json& value) {
  if (!value.is_array()) return scalar_text(value);
  std::vector<std::string> parts;
  for (const Json& element : value.as_array()) parts.push_back(scalar_text(element));
  return join(parts, ",");
}

}  // namespace

uint64_t parse_count(const std::string& text, const std::string& flag) {
  if (const auto value = whole_number(text)) return *value;
  fail(ErrorCode::kUsage, "{} is a whole number such as 512, 8k or 4GiB, not \"{}\"", flag, text);
}

int64_t parse_size(const std::string& text, const std::string& flag) {
  const bool negative = text.starts_with("-");
  const auto value = whole_number(std::string_view(text).substr(negative ? 1 : 0));
  if (!value || *value > static_cast<uint64_t>(INT64_MAX))
    fail(ErrorCode::kUsage, "{} is a whole number such as 512, 8k or 4GiB, not \"{}\"", flag, text);
  return negative ? -static_cast<int64_t>(*value) : static_cast<int64_t>(*value);
}

int64_t parse_size(const std::string& text, const std::string& flag, Range range) {
  const int64_t value = parse_size(text, flag);
  if (value >= range.least && value <= range.most) return value;
  if (range.most == INT64_MAX) fail(ErrorCode::kUsage, "{} is {}, needed {} or more", flag, text, range.least);
  fail(ErrorCode::kUsage, "{} is {}, needed {} to {}", flag, text, range.least, range.most);
}

std::vector<int64_t> parse_sizes(const std::string& text, const std::string& flag) {
  std::vector<int64_t> values;
  for (size_t begin = 0; begin <= text.size();) {
    size_t end = std::min(text.find(',', begin), text.size());
    values.push_back(parse_size(text.substr(begin, end - begin), flag, {1, INT64_MAX}));
    begin = end + 1;
  }
  return values;
}

Arguments normalized_arguments(std::vector<std::string> arguments) {
  Arguments result;
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string& argument = arguments[i];
    if (argument == "--") {
      result.words.insert(result.words.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i), arguments.end());
      break;
    }
    if (argument.starts_with("--")) {
      size_t end = std::min(argument.find('='), argument.size());
      std::replace(argument.begin(), argument.begin() + static_cast<std::ptrdiff_t>(end), '_', '-');
    }
    if (argument == "--config") {
      if (i + 1 == arguments.size()) fail(ErrorCode::kUsage, "--config needs a file");
      result.config_files.push_back(arguments[++i]);
    } else if (argument.starts_with("--config=")) {
      result.config_files.push_back(argument.substr(9));
    } else {
      result.words.push_back(argument);
    }
  }
  std::vector<std::string>& words = result.words;
  if (const size_t verb = verb_position(words); verb < words.size() && words[verb] == "help") {
    words.erase(words.begin() + static_cast<std::ptrdiff_t>(verb));
    words.emplace_back("--help");
  }
  return result;
}

std::vector<std::string> flags_of_file(const std::string& path, const std::vector<KnownFlag>& known) {
  Scope scope(format("--config {}", path));
  Json json = parse_json(MappedFile(path).text());
  const Json* inner = json.find("builder_config");
  if (!inner) inner = json.find("build_config");  // an engine's config.json
  std::vector<std::string> flags, names;
  for (const KnownFlag& flag : known) names.push_back(flag.name);
  for (const auto& [key, value] : (inner ? *inner : json).as_object()) {
    Scope at(format("key \"{}\"", key));
    std::string name = key;
    std::replace(name.begin(), name.end(), '_', '-');
    const auto flag = std::find(names.begin(), names.end(), name);
    if (flag == names.end())
      fail(ErrorCode::kUsage, "there is no flag --{} of this verb; the nearest is \"{}\"", name, nearest(name, names));
    const bool repeats = known[static_cast<size_t>(flag - names.begin())].repeats;
    if (value.is_array() && repeats) {
      for (const Json& element : value.as_array()) flags.push_back("--" + name + "=" + scalar_text(element));
    } else if (!value.is_null() && !flag_text(value).empty()) {
      flags.push_back("--" + name + "=" + flag_text(value));
    }
  }
  return flags;
}

size_t verb_position(const std::vector<std::string>& arguments) {
  size_t at = 0;
  while (at < arguments.size() && arguments[at].starts_with("-")) at += arguments[at] == "--cpu-mask" ? 2 : 1;
  return std::min(at, arguments.size());
}

int default_threads() {
  const char* set = std::getenv("INGOT_THREADS");
  return set && *set ? static_cast<int>(parse_size(set, "INGOT_THREADS", kThreads)) : 0;
}

void set_verbosity(int level) {
  const char* wanted = std::getenv("INGOT_LOG");
  const std::string name = wanted && *wanted ? wanted : "warning";
  const std::vector<std::string> names = {"debug", "info", "warning", "error", "off"};
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) fail(ErrorCode::kUsage, "INGOT_LOG is \"{}\"; it must be one of {}", name, join(names));
  const auto asked = static_cast<LogLevel>(found - names.begin());
  // -v shows more, never less.
  const LogLevel least = level >= 2 ? LogLevel::kDebug : level == 1 ? LogLevel::kInfo : LogLevel::kOff;
  set_log_level(std::min(asked, least));
}

std::string cache_directory() {
  if (const char* set = std::getenv("INGOT_CACHE_DIR"); set && *set) return set;
  if (const char* set = std::getenv("XDG_CACHE_HOME"); set && *set) return std::string(set) + "/ingot";
  if (const char* home = std::getenv("HOME"); home && *home) return std::string(home) + "/.cache/ingot";
  return "/tmp/ingot-cache";
}

}  // namespace ingot::cli
