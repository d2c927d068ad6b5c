// Finds stop strings in text that comes in pieces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ingot {

class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // The text that no stop string can begin in any more. Once one is complete, the text before it is all there will be;
  // of several, the one that is complete first counts.
  std::string push(std::string_view piece);
  // What was held back, when no more text comes.
  std::string finish();
  bool found() const { return found_; }

 private:
  size_t held_from() const;

  std::vector<std::string> stops_;
  std::string held_;
  bool found_ = false;
};

}  // namespace ingot
