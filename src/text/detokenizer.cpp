#include "text/detokenizer.h"

#include "text/tokenizer_parts.h"

namespace ingot {

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens)
    : parts_(tokenizer.parts_), skip_special_tokens_(skip_special_tokens), chain_(start_decoding(*parts_->decoder)) {}

Detokenizer::~Detokenizer() = default;
Detokenizer::Detokenizer(Detokenizer&&) noexcept = default;
Detokenizer& Detokenizer::operator=(Detokenizer&& other) noexcept {
  // The chain refers to the decoder of its own parts, so it must go first.
  chain_ = std::move(other.chain_);
  parts_ = std::move(other.parts_);
  skip_special_tokens_ = other.skip_special_tokens_;
  return *this;
}

std::string Detokenizer::push(int32_t id) {
  std::string text;
  auto token = parts_->token(id);
  if (token && !(skip_special_tokens_ && parts_->added->is_special(*token))) chain_->token(*token, text);
  return text;
}

std::string Detokenizer::finish() {
  std::string text;
  chain_->finish(text);
  chain_ = start_decoding(*parts_->decoder);
  return text;
}

}  // namespace ingot
