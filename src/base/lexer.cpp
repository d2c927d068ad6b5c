#include "base/lexer.h"

#include <charconv>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/fields.h"

namespace ingot {

namespace {
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool starts_word(char c) { return is_letter(c) || c == '_' || c == '.' || c == '/' || c == '@' || c == '%'; }
bool continues_word(char c) { return starts_word(c) || is_digit(c) || c == '-'; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
}  // namespace

Lexer::Lexer(std::string_view text, bool one_line) : text_(text), one_line_(one_line) {}

void Lexer::skip() {
  while (position_ < text_.size()) {
    if (is_space(text_[position_])) {
      ++position_;
    } else if (text_[position_] == '#') {
      size_t end = std::min(text_.find('\n', position_), text_.size());
      size_t begin = position_ + 1;
      while (begin < end && is_space(text_[begin])) ++begin;
      size_t last = end;
      while (last > begin && is_space(text_[last - 1])) --last;
      comment_ = std::string(text_.substr(begin, last - begin));
      position_ = end;
    } else {
      return;
    }
  }
}

std::string Lexer::take_comment() {
  skip();
  return std::exchange(comment_, {});
}

bool Lexer::at_end() {
  skip();
  return position_ == text_.size();
}

bool Lexer::peek(std::string_view punctuation) {
  skip();
  return text_.substr(position_).starts_with(punctuation);
}

bool Lexer::accept(std::string_view punctuation) {
  if (!peek(punctuation)) return false;
  position_ += punctuation.size();
  return true;
}

void Lexer::expect(std::string_view punctuation) {
  if (!accept(punctuation)) fail(format("'{}'", punctuation));
}

bool Lexer::peek_word() {
  skip();
  return position_ < text_.size() && starts_word(text_[position_]);
}

std::string Lexer::word(std::string_view what) {
  if (!peek_word()) fail(what);
  size_t begin = position_;
  while (position_ < text_.size() && continues_word(text_[position_])) ++position_;
  return std::string(text_.substr(begin, position_ - begin));
}

int64_t Lexer::integer() {
  skip();
  int64_t value = 0;
  auto [end, error] = std::from_chars(text_.data() + position_, text_.data() + text_.size(), value);
  if (error != std::errc()) fail("an integer");
  position_ = static_cast<size_t>(end - text_.data());
  return value;
}

double Lexer::number() {
  skip();
  double value = 0;
  auto [end, error] = std::from_chars(text_.data() + position_, text_.data() + text_.size(), value);
  if (error != std::errc()) fail("a number");
  position_ = static_cast<size_t>(end - text_.data());
  return value;
}

std::string Lexer::string() {
  if (!accept("\"")) return word("a string");
  std::string value;
  while (position_ < text_.size() && text_[position_] != '"') {
    if (text_[position_] == '\\' && position_ + 1 < text_.size()) ++position_;
    value += text_[position_++];
  }
  if (position_ == text_.size()) fail("a closing '\"'");
  ++position_;
  return value;
}

void Lexer::fail(std::string_view needed) {
  size_t line = 1, column = 1;
  for (size_t i = 0; i < position_ && i < text_.size(); ++i) {
    if (text_[i] == '\n') {
      ++line, column = 1;
    } else {
      ++column;
    }
  }
  std::string found = "the end";
  if (position_ < text_.size()) {
    size_t length = 1;
    while (length < 20 && position_ + length < text_.size() && continues_word(text_[position_]) &&
           continues_word(text_[position_ + length]))
      ++length;
    found = "'" + std::string(text_.substr(position_, length)) + "'";
  }
  std::string where = one_line_ ? format("column {}", column) : format("line {}, column {}", line, column);
  ingot::fail(ErrorCode::kRuntime, "{}: found {} where {} is needed", where, found, needed);
}

std::string print_string_value(const std::string& value) {
  bool bare = !value.empty() && starts_word(value[0]) && value != "true" && value != "false";
  for (char c : value) bare = bare && continues_word(c);
  if (bare) return value;
  std::string text = "\"";
  for (char c : value) {
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + "\"";
}

}  // namespace ingot
