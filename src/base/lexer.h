// The tokens of Ingot's small text languages (networks, problems, recipes, attributes): words, numbers, quoted strings,
// punctuation. Spaces separate; `#` begins a comment that runs to the end of the line. Errors name line and column.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ingot {

class Lexer {
 public:
  // `text` must outlive the lexer. With `one_line`, errors name the column alone: the caller knows the line.
  explicit Lexer(std::string_view text, bool one_line = false);

  bool at_end();  // nothing but spaces and comments is left
  bool peek(std::string_view punctuation);
  bool accept(std::string_view punctuation);  // consumes it if it comes next
  void expect(std::string_view punctuation);
  // A word: letters, digits, '_', '.', '-', '/', '@' and '%', not beginning with a digit or '-'. `what` is for the
  // error.
  std::string word(std::string_view what);
  bool peek_word();
  int64_t integer();
  double number();
  std::string string();  // a quoted string, or a bare word
  // Throws an Error: "line 3, column 7: found 'x' where WHAT is needed".
  [[noreturn]] void fail(std::string_view needed);
  size_t position() const { return position_; }

  // The comment that was skipped last, without '#' and surrounding spaces; empty if none since take_comment.
  std::string take_comment();

 private:
  void skip();
  std::string_view text_;
  size_t position_ = 0;
  std::string comment_;
  bool one_line_;
};

}  // namespace ingot
