// The range of a symbolic dimension.
#pragma once

#include <string>
#include <tuple>

#include "base/fields.h"

namespace ingot {

// `opt` is where speed matters most.
struct DimRange {
  std::string symbol;
  int64_t min = 1, opt = 1, max = 1;
  static constexpr auto fields() {
    return std::tuple{field("symbol", &DimRange::symbol), field("min", &DimRange::min), field("opt", &DimRange::opt),
                      field("max", &DimRange::max)};
  }
  bool operator==(const DimRange&) const = default;
};

}  // namespace ingot
