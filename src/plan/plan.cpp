#include "plan/plan.h"

#include <array>

namespace ingot {

std::span<const std::string_view> enum_names(BufferKind) {
  static constexpr std::array<std::string_view, 5> kNames = {"arena", "weight", "state", "input", "output"};
  return kNames;
}

}  // namespace ingot
