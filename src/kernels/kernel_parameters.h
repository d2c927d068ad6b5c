// The parameter text of a kernel as a struct.
#pragma once

#include <string_view>

#include "base/error.h"
#include "base/fields.h"

namespace ingot {

// Parses the whole of `text` as the fields of T; throws an Error with ErrorCode::kIncompatible otherwise.
template <class T>
T parse_kernel_parameters(std::string_view text) {
  try {
    Lexer lexer(text);
    T value = parse_fields<T>(lexer);
    if (!lexer.at_end()) lexer.fail("nothing more");
    return value;
  } catch (const Error& error) {
    fail(ErrorCode::kIncompatible, "its parameters do not fit this build: {}", error.what());
  }
}

}  // namespace ingot
