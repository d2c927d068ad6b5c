// The options of Metaspace, which its pre-tokenizer and its decoder share.
#pragma once

#include <string>

#include "base/json.h"

namespace ingot {

enum class MetaspacePrepend { kAlways, kFirst, kNever };

struct MetaspaceOptions {
  std::string replacement;  // one character that stands for a space
  MetaspacePrepend prepend = MetaspacePrepend::kAlways;
  bool split = true;
};

// Reads the newer "prepend_scheme" and the older "add_prefix_space".
MetaspaceOptions parse_metaspace(const Json& json);

// The only character of `text`; throws an Error when there are more or none.
char32_t single_character(const std::string& text);

}  // namespace ingot
