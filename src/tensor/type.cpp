#include "tensor/type.h"

#include "base/error.h"
#include "base/fields.h"

namespace ingot {

int64_t Dim::value(const DimValues& dims) const {
  if (symbol.empty()) return offset;
  auto found = dims.find(symbol);
  if (found == dims.end()) fail(ErrorCode::kRuntime, "the dimension \"{}\" has no value", symbol);
  return scale * found->second + offset;
}

int64_t Dim::constant() const {
  if (!symbol.empty()) fail(ErrorCode::kRuntime, "the dimension {} is not a constant", print(*this));
  return offset;
}

bool TensorType::is_constant() const {
  for (const Dim& dim : shape)
    if (!dim.is_constant()) return false;
  return true;
}

TensorType TensorType::at(const DimValues& dims) const {
  TensorType type = *this;
  for (Dim& dim : type.shape) dim = Dim(dim.value(dims));
  return type;
}

std::vector<int64_t> TensorType::sizes() const {
  std::vector<int64_t> sizes;
  for (const Dim& dim : shape) sizes.push_back(dim.constant());
  return sizes;
}

int64_t TensorType::elements() const {
  int64_t count = 1;
  for (const Dim& dim : shape)
    if (__builtin_mul_overflow(count, dim.constant(), &count))
      fail(ErrorCode::kRuntime, "the number of elements of {} overflows", print(*this));
  return count;
}

std::string print(const Dim& dim) {
  if (dim.is_constant()) return std::to_string(dim.offset);
  std::string text = dim.scale == 1 ? dim.symbol : std::to_string(dim.scale) + "*" + dim.symbol;
  if (dim.offset > 0) text += "+" + std::to_string(dim.offset);
  if (dim.offset < 0) text += " " + std::to_string(dim.offset);  // a word may contain '-'
  return text;
}

std::string print(const TensorType& type) {
  std::string text(enum_name(type.dtype));
  text += "[";
  for (size_t i = 0; i < type.shape.size(); ++i) text += (i ? ", " : "") + print(type.shape[i]);
  text += "]";
  return type.layout.empty() ? text : text + "@" + type.layout;
}

Dim parse_dim(Lexer& lexer) {
  Dim dim;
  if (lexer.peek_word()) {
    dim.symbol = lexer.word("a dimension");
    dim.scale = 1;
  } else {
    int64_t number = lexer.integer();
    if (!lexer.accept("*")) return Dim(number);
    dim.scale = number;
    dim.symbol = lexer.word("a dimension name");
  }
  if (lexer.accept("+"))
    dim.offset = lexer.integer();
  else if (lexer.peek("-"))
    dim.offset = lexer.integer();
  return dim;
}

TensorType parse_type(Lexer& lexer) {
  TensorType type;
  type.dtype = parse_enum<DType>(lexer.word("a dtype"));
  lexer.expect("[");
  while (!lexer.accept("]")) {
    if (!type.shape.empty()) lexer.expect(",");
    type.shape.push_back(parse_dim(lexer));
  }
  if (lexer.accept("@")) type.layout = lexer.word("a layout name");
  return type;
}

TensorType parse_type(std::string_view text) {
  Lexer lexer(text);
  TensorType type = parse_type(lexer);
  if (!lexer.at_end()) lexer.fail("the end of the type");
  return type;
}

}  // namespace ingot
