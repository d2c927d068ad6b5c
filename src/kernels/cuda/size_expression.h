// Sizes of a launch as text: the expressions of module_launch.h.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/kernel.h"

namespace ingot {

class SizeExpression {
 public:
  // Throws an Error with ErrorCode::kIncompatible that shows where `text` is not an expression.
  static SizeExpression parse(std::string_view text);
  // Throws an Error with ErrorCode::kIncompatible when it names a buffer or a dimension that there is not, or divides
  // by zero.
  int64_t evaluate(std::span<const Argument> buffers, int64_t multiprocessors) const;

 private:
  friend class SizeExpressionParser;
  enum class Kind {
    kNumber,
    kSize,
    kMultiprocessors,
    kAdd,
    kSubtract,
    kMultiply,
    kDivide,
    kRemainder,
    kCeil,
    kMin,
    kMax
  };
  struct Item {
    Kind kind;
    int64_t a = 0, b = 0;  // a number; a buffer and its dimension
  };
  static constexpr size_t kMaxDepth = 16;
  static int64_t apply(Kind kind, int64_t a, int64_t b);
  std::vector<Item> items_;  // in postfix order
};

}  // namespace ingot
