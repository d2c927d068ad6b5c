// Remembers the ids of words, because texts repeat words. Of a fixed size: a full cache is emptied. For one thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"

namespace ingot {

class WordCache {
 public:
  static constexpr size_t kMaxWordBytes = 128, kMaxIds = 1024;

  WordCache() : slots_(kSlots) {}

  // The ids of the word, or nothing. The span is valid until the next add.
  const std::span<const int32_t>* find(std::string_view word) {
    hash_ = hash64(word);
    size_t at = hash_ & (kSlots - 1);
    for (; slots_[at].size != 0; at = (at + 1) & (kSlots - 1)) {
      const Slot& slot = slots_[at];
      if (slot.hash != static_cast<uint32_t>(hash_ >> 32) || slot.size != word.size()) continue;
      if (std::string_view(text_).substr(slot.text, slot.size) != word) continue;
      found_ = std::span(ids_).subspan(slot.ids, slot.count);
      return &found_;
    }
    free_slot_ = at;
    return nullptr;
  }

  // Right after a find of the same word that found nothing. The word is not empty; the limits above hold.
  void add(std::string_view word, std::span<const int32_t> ids) {
    if (++words_ > kSlots / 2) {
      slots_.assign(kSlots, Slot{});
      text_.clear();
      ids_.clear();
      words_ = 1;
      free_slot_ = hash_ & (kSlots - 1);
    }
    slots_[free_slot_] = {static_cast<uint32_t>(hash_ >> 32), static_cast<uint32_t>(text_.size()),
                          static_cast<uint32_t>(ids_.size()), static_cast<uint16_t>(word.size()),
                          static_cast<uint16_t>(ids.size())};
    text_ += word;
    ids_.insert(ids_.end(), ids.begin(), ids.end());
  }

 private:
  static constexpr size_t kSlots = 1 << 16;
  struct Slot {
    uint32_t hash = 0, text = 0, ids = 0;
    uint16_t size = 0, count = 0;  // size 0: empty
  };
  std::vector<Slot> slots_;
  std::string text_;
  std::vector<int32_t> ids_;
  size_t words_ = 0;
  uint64_t hash_ = 0;
  size_t free_slot_ = 0;
  std::span<const int32_t> found_;
};

}  // namespace ingot
