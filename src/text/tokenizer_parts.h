// The parts of a tokenizer, as its file describes them.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "text/added_tokens.h"
#include "text/decoders.h"
#include "text/model.h"
#include "text/normalizers.h"
#include "text/post_processors.h"
#include "text/pre_tokenizers.h"
#include "text/tokenizer.h"
#include "text/word_cache.h"

namespace ingot {

// What one call of encode needs for itself. Kept for the next call.
struct EncodeWorkspace {
  RegexWorkspace regex;
  std::unique_ptr<ModelWorkspace> model;
  WordCache words;
};

struct Tokenizer::Parts {
  explicit Parts(const Json& json);

  std::vector<int32_t> encode(std::string_view text) const;  // without post-processing
  // How an id reads, before decoding; nothing for an unknown id.
  std::optional<std::string_view> token(int32_t id) const;
  bool is_special(int32_t id) const;

  std::unique_ptr<const Normalizer> normalizer;       // may be null
  std::unique_ptr<const PreTokenizer> pre_tokenizer;  // may be null
  std::unique_ptr<const Model> model;
  std::unique_ptr<const AddedTokens> added;
  PostProcessor post_processor;
  std::unique_ptr<const Decoder> decoder;

 private:
  class Encoding;
  std::unique_ptr<EncodeWorkspace> take_workspace() const;
  void keep_workspace(std::unique_ptr<EncodeWorkspace> workspace) const;

  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<EncodeWorkspace>> workspaces_;  // those not in use
};

}  // namespace ingot
