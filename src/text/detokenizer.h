// Token ids to text, one by one as they are made.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "text/tokenizer.h"

namespace ingot {

// All that push and finish returned, in their order, is what Tokenizer::decode returns for all the ids. For one thread.
class Detokenizer {
 public:
  Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens);
  ~Detokenizer();
  Detokenizer(Detokenizer&&) noexcept;
  Detokenizer& operator=(Detokenizer&&) noexcept;

  // The text that has become final: whole characters that no later id can change. Often empty.
  std::string push(int32_t id);
  // The rest. Afterwards the object begins anew.
  std::string finish();

 private:
  std::shared_ptr<const Tokenizer::Parts> parts_;
  bool skip_special_tokens_;
  std::unique_ptr<DecodeChain> chain_;
};

}  // namespace ingot
