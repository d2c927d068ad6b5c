#include "generate/stop_strings.h"

#include <utility>

namespace ingot {

std::string StopStrings::push(std::string_view piece) {
  if (found_) return "";
  held_ += piece;
  // The match that is complete first, so that the pieces in which text comes make no difference.
  size_t first = 0, first_end = std::string::npos;
  for (const std::string& stop : stops_) {
    size_t begin = held_.find(stop);
    if (begin == std::string::npos) continue;
    size_t end = begin + stop.size();
    if (end > first_end || (end == first_end && begin > first)) continue;
    first = begin;
    first_end = end;
  }
  if (first_end != std::string::npos) {
    found_ = true;
    held_.resize(first);
    return std::exchange(held_, "");
  }
  size_t keep = held_from();
  std::string text = held_.substr(0, keep);
  held_.erase(0, keep);
  return text;
}

// Where the longest end of the held text begins that is the beginning of a stop string.
size_t StopStrings::held_from() const {
  size_t begin = 0;
  for (; begin < held_.size(); ++begin) {
    std::string_view end = std::string_view(held_).substr(begin);
    for (const std::string& stop : stops_)
      if (std::string_view(stop).starts_with(end)) return begin;
  }
  return begin;
}

std::string StopStrings::finish() { return found_ ? "" : std::exchange(held_, ""); }

}  // namespace ingot
