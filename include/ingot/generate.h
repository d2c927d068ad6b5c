// Generating text with an engine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ingot/engine.h"
#include "ingot/sampling.h"

namespace ingot {

// A model's tokenizer. Works on any directory that holds a tokenizer.json.
class TextCodec {
 public:
  TextCodec(const TextCodec&) = default;  // and no move: what is moved from stays whole
  TextCodec& operator=(const TextCodec&) = default;
  static TextCodec from_dir(const std::string& directory);
  std::vector<int32_t> encode(const std::string& text, bool add_special_tokens) const;
  std::string decode(const std::vector<int32_t>& ids, bool skip_special_tokens) const;

 private:
  TextCodec() = default;
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

struct SessionConfig {
  int threads = 0;              // 0: what the engine was tuned for; at most 1024
  int64_t kv_cache_memory = 0;  // bytes; 0: as much as max_batch_size full sequences need, at most half of what is free
                                // on a machine, or 90 % on a GPU
  double kv_cache_fraction = 0;  // with kv_cache_memory 0: this part of what is free, more than 0 and at most 1
};

// One answer, complete.
struct Generation {
  std::string text;             // without special tokens
  std::vector<int32_t> ids;     // the new tokens
  std::vector<float> logprobs;  // of the new tokens, when asked for
  int64_t prompt_tokens = 0, new_tokens = 0;
  std::string finish_reason;     // "stop" or "length"
  double ms_first_token = 0;     // from the call to the first token
  double tokens_per_second = 0;  // of the tokens after the first
};

// Called with every piece of text that is final; return false to stop.
using TextCallback = std::function<bool(const std::string& piece)>;

// Generates for prompts over one engine. Prompts given together share steps. One call at a time: a callback that
// generates needs a session of its own. A call that throws, or whose callback does, leaves nothing behind.
class Session {
 public:
  Session(const Session&) = default;  // and no move: what is moved from stays whole
  Session& operator=(const Session&) = default;
  explicit Session(const Engine& engine, const SessionConfig& config = {});
  // An empty prompt and one that exceeds the engine's limits are usage Errors that say the limit.
  Generation generate(const std::string& prompt, const SamplingParams& params, const TextCallback& on_text = {});
  std::vector<Generation> generate_all(const std::vector<std::string>& prompts, const SamplingParams& params);
  // Token ids in, token ids out; needs no tokenizer.
  Generation generate_ids(const std::vector<int32_t>& prompt, const SamplingParams& params);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace ingot
