// Text in, text out as it is made: a tokenizer around a TokenSession.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "generate/stop_strings.h"
#include "generate/token_session.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace ingot {

struct TextEvent {
  uint64_t request = 0;
  std::string text;  // final: whole characters, with no part of a stop string; may be empty
  SampledToken token;
  std::string finish_reason;  // as in TokenEvent; "stop" for a stop string too
};

// All that a request's events hold together is its answer, without special tokens.
class TextGenerator {
 public:
  // The session is not shared with others: every event of it passes through here.
  TextGenerator(TokenSession& session, Tokenizer tokenizer) : session_(session), tokenizer_(std::move(tokenizer)) {}

  // The ids of a prompt: with the tokenizer's special tokens around it, but only one begin-of-text where the prompt
  // spells it too.
  std::vector<int32_t> encode(std::string_view prompt) const;
  // Errors as for TokenSession::submit.
  uint64_t submit(std::string_view prompt, const SamplingParams& params) { return submit(encode(prompt), params); }
  uint64_t submit(std::vector<int32_t> prompt, const SamplingParams& params);
  std::vector<TextEvent> step();
  void cancel(uint64_t id);
  bool idle() const { return session_.idle(); }

  const Tokenizer& tokenizer() const { return tokenizer_; }
  TokenSession& session() { return session_; }

 private:
  struct Answer {
    Detokenizer detokenizer;
    StopStrings stops;
    int64_t min_tokens = 0, tokens = 0;  // stop strings count from min_tokens on
  };

  TextEvent tell(TokenEvent event);

  TokenSession& session_;
  Tokenizer tokenizer_;
  std::map<uint64_t, Answer> answers_;
};

}  // namespace ingot
