// The strings of a model and their ids, found either way.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace ingot {

class Vocabulary {
 public:
  Vocabulary() = default;
  // From {"token": id, …}. Throws an Error for ids that are negative or far beyond the number of tokens.
  explicit Vocabulary(const Json::Object& ids);

  void reserve(size_t tokens);
  // A token that is added again gets the new id. Ids are not negative; the caller bounds them.
  void add(std::string_view token, int32_t id);

  static constexpr int32_t kNone = -1;
  // The id of a token, or kNone.
  int32_t id(std::string_view token) const;
  std::optional<std::string_view> token(int32_t id) const;
  // The number of different tokens.
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    uint32_t offset, size;
    int32_t id;
  };
  struct Slot {
    uint32_t hash = 0;
    uint32_t entry = 0;  // index + 1; 0: empty
  };
  std::string_view text_of(const Entry& entry) const { return {text_.data() + entry.offset, entry.size}; }
  // The slot that holds the token, or the empty one where it belongs.
  size_t find_slot(std::string_view token, uint64_t hash) const;
  void grow(size_t slots);

  std::string text_;  // all tokens, one after another
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> by_id_;  // index into entries_ + 1; 0: no such token
};

}  // namespace ingot
