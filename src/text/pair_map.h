// A hash map from pairs of token ids to what they merge to. Filled once, then read by many threads.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

namespace ingot {

class PairMap {
 public:
  struct Merge {
    uint32_t rank = 0;
    int32_t result = -1;
  };

  explicit PairMap(size_t pairs) : slots_(std::bit_ceil(pairs * 2 + 2)), shift_(64 - std::countr_zero(slots_.size())) {}

  // A pair that is set again keeps the last merge. At most as many pairs as were announced.
  void set(int32_t left, int32_t right, Merge merge) {
    Slot& slot = slots_[find_slot(left, right)];
    slot = {key_of(left, right), merge};
  }
  // nullptr when the pair does not merge.
  const Merge* find(int32_t left, int32_t right) const {
    const Slot& slot = slots_[find_slot(left, right)];
    return slot.key == kEmpty ? nullptr : &slot.merge;
  }

 private:
  static constexpr uint64_t kEmpty = UINT64_MAX;  // ids are not negative
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge;
  };
  static uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t find_slot(int32_t left, int32_t right) const {
    const uint64_t key = key_of(left, right);
    size_t at = (key * 0x9E3779B97F4A7C15u) >> shift_;
    while (slots_[at].key != key && slots_[at].key != kEmpty) at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  std::vector<Slot> slots_;
  int shift_;
};

}  // namespace ingot
