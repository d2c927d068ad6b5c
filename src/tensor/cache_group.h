// States of the KV cache whose pages are given out together.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>

#include "base/fields.h"

namespace ingot {

constexpr int64_t kMostPageSize = 1024;

// One page table per group and sequence, so that a layer with a window never pays for the full context.
struct CacheGroup {
  std::string name = "full";
  int64_t page_size = 16;  // positions per page
  int64_t window = 0;      // only the last `window` positions are ever read; 0: all
  static constexpr auto fields() {
    return std::tuple{field("name", &CacheGroup::name), field("page_size", &CacheGroup::page_size),
                      field("window", &CacheGroup::window)};
  }
  bool operator==(const CacheGroup&) const = default;
};

}  // namespace ingot
