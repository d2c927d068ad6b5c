#include "arguments.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mapped_file.h"

namespace ingot::cli {

namespace {

struct Unit {
  const char* suffix;
  double factor;
};
constexpr Unit kUnits[] = {{"", 1},
                           {"k", 1024},
                           {"K", 1024},
                           {"KiB", 1024},
                           {"M", 1024.0 * 1024},
                           {"MiB", 1024.0 * 1024},
                           {"G", 1024.0 * 1024 * 1024},
                           {"GiB", 1024.0 * 1024 * 1024},
                           {"T", 1024.0 * 1024 * 1024 * 1024},
                           {"TiB", 1024.0 * 1024 * 1024 * 1024},
                           {"kB", 1e3},
                           {"MB", 1e6},
                           {"GB", 1e9}};

std::string flag_text(const Json& value) {
  if (value.is_string()) return value.as_string();
  if (!value.is_array()) return value.dump();
  std::vector<std::string> parts;
  for (const Json& element : value.as_array()) parts.push_back(flag_text(element));
  return join(parts, ",");
}

void append_flags(const std::string& path, std::vector<std::string>& flags) {
  Scope scope(format("--config {}", path));
  Json json = parse_json(MappedFile(path).text());
  const Json* inner = json.find("builder_config");
  if (!inner) inner = json.find("build_config");  // an engine's config.json
  for (const auto& [key, value] : (inner ? *inner : json).as_object()) {
    std::string name = "--" + key;
    std::replace(name.begin(), name.end(), '_', '-');
    if (value.is_bool()) {
      flags.push_back(name + (value.as_bool() ? "=true" : "=false"));
    } else if (!value.is_null() && flag_text(value) != "") {
      flags.push_back(name + "=" + flag_text(value));
    }
  }
}

}  // namespace

int64_t parse_size(const std::string& text, const std::string& flag) {
  double number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string suffix(error == std::errc() ? end : text.data(), text.data() + text.size());
  for (const Unit& unit : kUnits) {
    if (error != std::errc() || suffix != unit.suffix) continue;
    double value = number * unit.factor;
    if (value != std::floor(value) || std::abs(value) > 9e18) break;
    return static_cast<int64_t>(value);
  }
  fail(ErrorCode::kUsage, "{} is a whole number such as 512, 8k or 4GiB, not \"{}\"", flag, text);
}

std::vector<int64_t> parse_sizes(const std::string& text, const std::string& flag) {
  std::vector<int64_t> values;
  for (size_t begin = 0; begin <= text.size();) {
    size_t end = std::min(text.find(',', begin), text.size());
    values.push_back(parse_size(text.substr(begin, end - begin), flag));
    begin = end + 1;
  }
  return values;
}

std::vector<std::string> normalized_arguments(std::vector<std::string> arguments) {
  std::vector<std::string> rest, from_file;
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string& argument = arguments[i];
    if (argument == "--") {
      rest.insert(rest.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i), arguments.end());
      break;
    }
    if (argument.starts_with("--")) {
      size_t end = std::min(argument.find('='), argument.size());
      std::replace(argument.begin(), argument.begin() + static_cast<std::ptrdiff_t>(end), '_', '-');
    }
    if (argument.size() == 3 && argument.starts_with("-O")) argument = "--opt-level=" + argument.substr(2);
    if (argument == "--config") {
      if (i + 1 == arguments.size()) fail(ErrorCode::kUsage, "--config needs a file");
      append_flags(arguments[++i], from_file);
    } else if (argument.starts_with("--config=")) {
      append_flags(argument.substr(9), from_file);
    } else {
      rest.push_back(argument);
    }
  }
  // Behind the verb, before the flags of the command line.
  size_t verb = verb_position(rest);
  size_t words = verb < rest.size() && rest[verb] == "eval" ? 2 : 1;
  auto place = rest.begin() + static_cast<std::ptrdiff_t>(std::min(verb + words, rest.size()));
  rest.insert(place, from_file.begin(), from_file.end());
  return rest;
}

size_t verb_position(const std::vector<std::string>& arguments) {
  size_t at = 0;
  while (at < arguments.size() && arguments[at].starts_with("-")) at += arguments[at] == "--cpu-mask" ? 2 : 1;
  return std::min(at, arguments.size());
}

int default_threads() {
  const char* set = std::getenv("INGOT_THREADS");
  return set && *set ? static_cast<int>(parse_size(set, "INGOT_THREADS")) : 0;
}

void set_verbosity(int level) {
  const char* wanted = std::getenv("INGOT_LOG");
  std::string name = wanted ? wanted : "";
  if (level >= 2 || name == "debug") return set_log_level(LogLevel::kDebug);
  if (level == 1 || name == "info") return set_log_level(LogLevel::kInfo);
  if (name == "error") return set_log_level(LogLevel::kError);
  if (name == "off") set_log_level(LogLevel::kOff);
}

std::string cache_directory() {
  if (const char* set = std::getenv("INGOT_CACHE_DIR"); set && *set) return set;
  if (const char* set = std::getenv("XDG_CACHE_HOME"); set && *set) return std::string(set) + "/ingot";
  if (const char* home = std::getenv("HOME"); home && *home) return std::string(home) + "/.cache/ingot";
  return "/tmp/ingot-cache";
}

}  // namespace ingot::cli
