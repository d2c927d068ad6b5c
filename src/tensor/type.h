// What a value looks like: a number type and a shape of dimensions, some known only when a step runs.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/lexer.h"
#include "tensor/dtype.h"

namespace ingot {

// The values of symbols such as "tokens" at one run.
using DimValues = std::map<std::string, int64_t, std::less<>>;

// A dimension: scale * symbol + offset; a constant has no symbol and is `offset`.
struct Dim {
  int64_t scale = 0, offset = 0;
  std::string symbol;

  Dim() = default;
  Dim(int64_t constant) : offset(constant) {}
  Dim(int constant) : offset(constant) {}
  Dim(std::string symbol_, int64_t scale_ = 1, int64_t offset_ = 0)
      : scale(scale_), offset(offset_), symbol(std::move(symbol_)) {}
  Dim(const char* symbol_) : Dim(std::string(symbol_)) {}

  bool is_constant() const { return symbol.empty(); }
  // The number; throws an Error when a symbol has no value.
  int64_t value(const DimValues& dims) const;
  int64_t constant() const;  // throws an Error when symbolic
  bool operator==(const Dim&) const = default;
};

using Shape = std::vector<Dim>;

// `layout` "" is row major; other names are storage forms that a tactic asked for ("tiles_16x32").
struct TensorType {
  DType dtype = DType::kF32;
  Shape shape;
  std::string layout;

  int64_t rank() const { return static_cast<int64_t>(shape.size()); }
  bool is_constant() const;                    // no symbols left
  TensorType at(const DimValues& dims) const;  // symbols replaced by numbers
  std::vector<int64_t> sizes() const;          // of a constant type
  int64_t elements() const;                    // of a constant type
  int64_t bytes() const { return elements() * size_of(dtype); }
  bool operator==(const TensorType&) const = default;
};

using Types = std::vector<TensorType>;

// "tokens", "4096", "8*tokens", "sequences+1"; "bf16[tokens, 4096]", "bf16[8, 16]@tiles_16x32".
std::string print(const Dim& dim);
std::string print(const TensorType& type);
Dim parse_dim(Lexer& lexer);
TensorType parse_type(Lexer& lexer);
TensorType parse_type(std::string_view text);

}  // namespace ingot
