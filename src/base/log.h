// Log lines on stderr. Levels: debug (-v), info, warning, error. Results never go through the log.
#pragma once

#include "base/format.h"

namespace ingot {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

void set_log_level(LogLevel level);
bool log_enabled(LogLevel level);
void log_line(LogLevel level, const std::string& text);

template <class... T>
void log_debug(format_string<T...> text, T&&... values) {
  if (log_enabled(LogLevel::kDebug)) log_line(LogLevel::kDebug, fmt::vformat(text, fmt::make_format_args(values...)));
}
template <class... T>
void log_info(format_string<T...> text, T&&... values) {
  if (log_enabled(LogLevel::kInfo)) log_line(LogLevel::kInfo, fmt::vformat(text, fmt::make_format_args(values...)));
}
template <class... T>
void log_warning(format_string<T...> text, T&&... values) {
  if (log_enabled(LogLevel::kWarning))
    log_line(LogLevel::kWarning, fmt::vformat(text, fmt::make_format_args(values...)));
}

}  // namespace ingot
