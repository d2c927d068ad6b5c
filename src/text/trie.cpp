#include "text/trie.h"

#include <algorithm>
#include <cstring>

namespace ingot {

namespace {

// The entries [begin, end) share the first `depth` bytes.
struct Range {
  uint32_t begin, end, depth;
};

}  // namespace

Trie::Trie(std::vector<std::pair<std::string_view, int32_t>> entries) {
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Range> ranges = {{0, static_cast<uint32_t>(entries.size()), 0}};
  first_child_.clear();
  // Breadth first, so that the children of one node become neighbours.
  for (size_t node = 0; node < ranges.size(); ++node) {
    Range range = ranges[node];
    first_child_.push_back(static_cast<uint32_t>(ranges.size()));
    uint32_t at = range.begin;
    for (; at < range.end && entries[at].first.size() == range.depth; ++at) values_[node] = entries[at].second;
    while (at < range.end) {
      auto byte = static_cast<unsigned char>(entries[at].first[range.depth]);
      uint32_t begin = at;
      while (at < range.end && static_cast<unsigned char>(entries[at].first[range.depth]) == byte) ++at;
      ranges.push_back({begin, at, range.depth + 1});
      bytes_.push_back(byte);
      values_.push_back(kNone);
    }
  }
  first_child_.push_back(static_cast<uint32_t>(ranges.size()));
}

Trie::Node Trie::step(Node node, unsigned char byte) const {
  uint32_t begin = first_child_[node], count = first_child_[node + 1] - begin;
  if (count == 0) return kNowhere;
  const void* found = std::memchr(bytes_.data() + begin, byte, count);
  return found ? static_cast<Node>(static_cast<const unsigned char*>(found) - bytes_.data()) : kNowhere;
}

Trie::Node Trie::descend(Node node, std::string_view text) const {
  for (char byte : text) {
    node = step(node, static_cast<unsigned char>(byte));
    if (node == kNowhere) break;
  }
  return node;
}

Trie::Match Trie::longest(std::string_view text, Node from) const {
  Match match;
  Node node = from;
  for (size_t i = 0; i < text.size(); ++i) {
    node = step(node, static_cast<unsigned char>(text[i]));
    if (node == kNowhere) break;
    if (values_[node] != kNone) match = {i + 1, values_[node]};
  }
  return match;
}

}  // namespace ingot
