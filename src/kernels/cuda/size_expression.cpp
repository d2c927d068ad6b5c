#include "kernels/cuda/size_expression.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace ingot {

namespace {
[[noreturn]] void refuse(std::string_view text, size_t at, std::string_view needed) {
  fail(ErrorCode::kIncompatible, "the size expression \"{}\" needs {} at character {}", text, needed, at + 1);
}
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return c >= 'a' && c <= 'z'; }
}  // namespace

class SizeExpressionParser {
 public:
  explicit SizeExpressionParser(std::string_view text) : text_(text) {}

  SizeExpression parse() {
    expression();
    if (peek() != '\0') refuse(text_, at_, "nothing more");
    if (deepest_ > SizeExpression::kMaxDepth) refuse(text_, 0, "fewer nested parts");
    return std::move(result_);
  }

 private:
  using Kind = SizeExpression::Kind;

  char peek() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) refuse(text_, at_, std::string("'") + c + "'");
  }
  void push(Kind kind, int64_t a = 0, int64_t b = 0) {
    result_.items_.push_back({kind, a, b});
    if (kind <= Kind::kMultiprocessors)
      deepest_ = std::max(deepest_, ++depth_);
    else
      --depth_;
  }

  void expression() {
    term();
    for (;;) {
      Kind kind = take('+') ? Kind::kAdd : take('-') ? Kind::kSubtract : Kind::kNumber;
      if (kind == Kind::kNumber) return;
      term();
      push(kind);
    }
  }

  void term() {
    factor();
    for (;;) {
      Kind kind = take('*')   ? Kind::kMultiply
                  : take('/') ? Kind::kDivide
                  : take('%') ? Kind::kRemainder
                              : Kind::kNumber;
      if (kind == Kind::kNumber) return;
      factor();
      push(kind);
    }
  }

  int64_t integer() {
    if (!is_digit(peek())) refuse(text_, at_, "an integer");
    int64_t value = 0;
    while (at_ < text_.size() && is_digit(text_[at_])) {
      if (value > (int64_t{1} << 50)) refuse(text_, at_, "a smaller integer");
      value = value * 10 + (text_[at_++] - '0');
    }
    return value;
  }

  void factor() {
    if (is_digit(peek())) return push(Kind::kNumber, integer());
    if (take('(')) {
      if (++nested_ > 64) refuse(text_, at_, "fewer parentheses");
      expression();
      --nested_;
      return expect(')');
    }
    size_t begin = at_;
    while (at_ < text_.size() && is_letter(text_[at_])) ++at_;
    std::string_view name = text_.substr(begin, at_ - begin);
    if (name == "sms") return push(Kind::kMultiprocessors);
    expect('(');
    if (name == "size") {
      int64_t buffer = integer();
      expect(',');
      push(Kind::kSize, buffer, integer());
    } else {
      Kind kind = name == "ceil"  ? Kind::kCeil
                  : name == "min" ? Kind::kMin
                  : name == "max" ? Kind::kMax
                                  : Kind::kNumber;
      if (kind == Kind::kNumber || ++nested_ > 64) refuse(text_, begin, "size, sms, ceil, min or max");
      expression();
      expect(',');
      expression();
      --nested_;
      push(kind);
    }
    expect(')');
  }

  std::string_view text_;
  size_t at_ = 0, depth_ = 0, deepest_ = 0, nested_ = 0;
  SizeExpression result_;
};

SizeExpression SizeExpression::parse(std::string_view text) { return SizeExpressionParser(text).parse(); }

int64_t SizeExpression::apply(Kind kind, int64_t a, int64_t b) {
  bool divides = kind == Kind::kDivide || kind == Kind::kRemainder || kind == Kind::kCeil;
  if (divides && b == 0) fail(ErrorCode::kIncompatible, "a size expression divides {} by zero", a);
  switch (kind) {
    case Kind::kAdd:
      return a + b;
    case Kind::kSubtract:
      return a - b;
    case Kind::kMultiply:
      return a * b;
    case Kind::kDivide:
      return a / b;
    case Kind::kRemainder:
      return a % b;
    case Kind::kCeil:
      return (a + b - 1) / b;
    case Kind::kMin:
      return std::min(a, b);
    default:
      return std::max(a, b);
  }
}

int64_t SizeExpression::evaluate(std::span<const Argument> buffers, int64_t multiprocessors) const {
  std::array<int64_t, kMaxDepth> stack{};
  size_t top = 0;
  for (const Item& item : items_) {
    if (item.kind == Kind::kNumber) {
      stack[top++] = item.a;
    } else if (item.kind == Kind::kMultiprocessors) {
      stack[top++] = multiprocessors;
    } else if (item.kind == Kind::kSize) {
      if (static_cast<size_t>(item.a) >= buffers.size() || item.b >= buffers[static_cast<size_t>(item.a)].rank)
        fail(ErrorCode::kIncompatible, "the step has no size({}, {})", item.a, item.b);
      stack[top++] = buffers[static_cast<size_t>(item.a)].size[static_cast<size_t>(item.b)];
    } else {
      --top;
      stack[top - 1] = apply(item.kind, stack[top - 1], stack[top]);
    }
  }
  return stack[0];
}

}  // namespace ingot
