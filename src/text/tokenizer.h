// A Hugging Face tokenizer: text to token ids and back, equal to what the `tokenizers` library does with the same file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"

namespace ingot {

class DecodeChain;

// Immutable; any number of threads may use one tokenizer at a time. Copies share everything.
// "truncation" and "padding" of the file are not applied, and neither is dropout: encoding is complete and repeatable.
class Tokenizer {
 public:
  // From the text of a tokenizer.json. Throws an Error that names the place and what is wrong or not supported.
  static Tokenizer from_json(std::string_view tokenizer_json);
  // From a model directory: tokenizer.json, and tokenizer_config.json and special_tokens_map.json where they exist.
  static Tokenizer from_dir(const Path& directory);

  // Bytes of `text` that are not UTF-8 count as U+FFFD. add_special_tokens puts the file's special tokens around the
  // text (begin of text and the like); special tokens that are written in the text are found either way.
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens) const;
  // Ids that no token has are left out; so are special tokens if asked. The result is valid UTF-8.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  // The number of different tokens, added ones included.
  size_t vocab_size() const;
  std::optional<int32_t> token_to_id(std::string_view token) const;
  std::optional<std::string_view> id_to_token(int32_t id) const;
  bool is_special(int32_t id) const;
  // As named by the configuration files beside tokenizer.json; empty without them.
  std::optional<int32_t> bos_id() const { return bos_id_; }
  std::optional<int32_t> eos_id() const { return eos_id_; }

 private:
  friend class Detokenizer;
  struct Parts;
  explicit Tokenizer(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}
  void read_special_tokens(const Path& file);

  std::shared_ptr<const Parts> parts_;
  std::optional<int32_t> bos_id_, eos_id_;
};

}  // namespace ingot
