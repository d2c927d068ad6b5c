// Pre-tokenizers: how a normalized text is cut into the words that the model sees one by one.
#pragma once

#include <memory>
#include <string_view>

#include "base/json.h"
#include "text/regex.h"

namespace ingot {

// Receives the pieces of a text in their order. A piece is valid only during the call; empty pieces are dropped.
class PieceSink {
 public:
  virtual ~PieceSink() = default;
  // at_start: the piece begins where the user's input begins.
  virtual void piece(std::string_view text, bool at_start) = 0;
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void split(std::string_view text, bool at_start, RegexWorkspace& workspace, PieceSink& sink) const = 0;
};

// From the "pre_tokenizer" of a tokenizer file. Throws an Error that names a type that is not known.
std::unique_ptr<const PreTokenizer> make_pre_tokenizer(const Json& json);

}  // namespace ingot
