// A byte trie over a fixed set of strings: finds every string that begins at a place of a text, shortest first.
// Built once from the whole set; immutable afterwards.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace ingot {

class Trie {
 public:
  static constexpr int32_t kNone = -1;

  Trie() = default;
  // Each entry is a string and its value (>= 0). Of equal strings the last one counts. The views are not kept.
  explicit Trie(std::vector<std::pair<std::string_view, int32_t>> entries);

  // A place in the trie. The root stands for the empty string.
  using Node = uint32_t;
  static constexpr Node kRoot = 0;
  static constexpr Node kNowhere = UINT32_MAX;

  Node step(Node node, unsigned char byte) const;
  // The place of `text`, or kNowhere when no string begins with it.
  Node descend(Node node, std::string_view text) const;
  // The value of the string that ends here, or kNone.
  int32_t value(Node node) const { return values_[node]; }

  struct Match {
    size_t size = 0;
    int32_t value = kNone;
  };
  // The longest non-empty string that begins at the start of `text`; value kNone when there is none.
  Match longest(std::string_view text, Node from = kRoot) const;

 private:
  // Children of a node are neighbours, sorted by byte: first_child_[n] … first_child_[n + 1].
  std::vector<uint32_t> first_child_ = {1, 1};
  std::vector<unsigned char> bytes_ = {0};  // the byte that leads to a node
  std::vector<int32_t> values_ = {kNone};
};

}  // namespace ingot
