// Decoders: how the tokens of a model become text again. A decoder is a chain of stages through which tokens stream; a
// stage hands on text as soon as nothing that follows can change it. Decoding a whole list and decoding token by token
// run the same chain, so they agree by construction.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"

namespace ingot {

// Receives a stream of tokens. A token arrives as any number of fragments (each whole characters) and an end.
class DecodeStage {
 public:
  virtual ~DecodeStage() = default;
  virtual void text(std::string_view fragment) = 0;
  virtual void end_token() = 0;
  virtual void finish() = 0;  // no more tokens

  void token(std::string_view whole) {
    text(whole);
    end_token();
  }
};

// One decoding in progress.
class DecodeChain {
 public:
  virtual ~DecodeChain() = default;
  // Appends to `out` what has become final.
  virtual void token(std::string_view token, std::string& out) = 0;
  virtual void finish(std::string& out) = 0;
};

// The immutable description; start() begins a decoding. The decoder must outlive its chains.
class Decoder {
 public:
  virtual ~Decoder() = default;
  // Puts this decoder's stage in front of `next`.
  virtual std::unique_ptr<DecodeStage> stage(std::unique_ptr<DecodeStage> next) const = 0;
};

// From the "decoder" of a tokenizer file. Throws an Error that names a type that is not known.
std::unique_ptr<const Decoder> make_decoder(const Json& json);
// What is used when the file names none: tokens joined by spaces.
std::unique_ptr<const Decoder> make_joining_decoder();

std::unique_ptr<DecodeChain> start_decoding(const Decoder& decoder);

}  // namespace ingot
