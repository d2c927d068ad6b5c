// Normalizers: what is done to a text before it is cut into words.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"
#include "text/regex.h"

namespace ingot {

// A text on its way through the normalizers.
struct NormalizedText {
  std::string text;
  // Whether the text still begins where the user's input begins. "first" of Metaspace asks for it.
  bool at_start = false;
};

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void normalize(NormalizedText& value, RegexWorkspace& workspace) const = 0;
};

// From the "normalizer" of a tokenizer file. Throws an Error that names a type that is not known.
std::unique_ptr<const Normalizer> make_normalizer(const Json& json);

// A "Precompiled" character map of SentencePiece (normalizer_precompiled.cpp).
std::unique_ptr<const Normalizer> make_precompiled_normalizer(const Json& json);

}  // namespace ingot
