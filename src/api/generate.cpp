// The public Session and TextCodec around generate/ and text/.
#include "ingot/generate.h"

#include <algorithm>
#include <chrono>

#include "api/engine.h"
#include "base/error.h"
#include "generate/text_generator.h"

namespace ingot {

namespace {
using Clock = std::chrono::steady_clock;

// Counts one answer's times.
struct Stopwatch {
  Clock::time_point start = Clock::now(), first, last;
  void token(Generation& generation) {
    last = Clock::now();
    if (generation.new_tokens++ == 0) first = last;
    generation.ms_first_token = std::chrono::duration<double, std::milli>(first - start).count();
    double seconds = std::chrono::duration<double>(last - first).count();
    if (seconds > 0) generation.tokens_per_second = static_cast<double>(generation.new_tokens - 1) / seconds;
  }
};

TokenSessionOptions token_options(const SessionConfig& config) {
  TokenSessionOptions options;
  options.runner.threads = config.threads;
  if (config.kv_cache_memory < 0 || !(config.kv_cache_fraction >= 0 && config.kv_cache_fraction <= 1))
    fail(ErrorCode::kUsage, "kv_cache_memory is {} and kv_cache_fraction {}; needed are bytes, or a part from 0 to 1",
         config.kv_cache_memory, config.kv_cache_fraction);
  options.runner.kv_cache_memory = static_cast<uint64_t>(config.kv_cache_memory);
  options.runner.kv_cache_fraction = config.kv_cache_fraction;
  return options;
}

void add_token(Generation& generation, const SampledToken& token, const SamplingParams& params) {
  generation.ids.push_back(token.id);
  if (params.logprobs >= 0) generation.logprobs.push_back(token.logprob);
}
}  // namespace

struct TextCodec::Impl {
  Tokenizer tokenizer;
};

TextCodec TextCodec::from_dir(const std::string& directory) {
  TextCodec codec;
  codec.impl_ = std::make_shared<const Impl>(Impl{Tokenizer::from_dir(directory)});
  return codec;
}

std::vector<int32_t> TextCodec::encode(const std::string& text, bool add_special_tokens) const {
  return impl_->tokenizer.encode(text, add_special_tokens);
}

std::string TextCodec::decode(const std::vector<int32_t>& ids, bool skip_special_tokens) const {
  return impl_->tokenizer.decode(ids, skip_special_tokens);
}

struct Session::Impl {
  Engine engine;
  TokenSession tokens;
  std::unique_ptr<TextGenerator> text = {};  // made when text is first asked for
  bool generating = false;

  TextGenerator& generator() {
    if (!text) text = std::make_unique<TextGenerator>(tokens, Tokenizer::from_dir(engine.directory()));
    return *text;
  }

  // The requests of one call. However the call ends, none of them stays: its tokens would come out of the next call.
  class Call {
   public:
    explicit Call(Impl& session) : session_(session) {
      if (session.generating)
        fail(ErrorCode::kUsage,
             "this session is generating already; a callback that generates needs a session of its own");
      session.generating = true;
    }
    ~Call() {
      for (uint64_t request : requests_)
        session_.text ? session_.text->cancel(request) : session_.tokens.cancel(request);
      session_.generating = false;
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    void add(uint64_t request) { requests_.push_back(request); }
    // The place of a request among those of this call; their ids ascend.
    size_t place(uint64_t request) const {
      return static_cast<size_t>(std::lower_bound(requests_.begin(), requests_.end(), request) - requests_.begin());
    }

   private:
    Impl& session_;
    std::vector<uint64_t> requests_;
  };
};

Session::Session(const Engine& engine, const SessionConfig& config)
    : impl_(new Impl{engine, TokenSession(engine.impl()->loaded, token_options(config))}) {}

Generation Session::generate(const std::string& prompt, const SamplingParams& params, const TextCallback& on_text) {
  Stopwatch watch;
  TextGenerator& generator = impl_->generator();
  if (prompt.empty()) fail(ErrorCode::kUsage, "the prompt is empty");
  std::vector<int32_t> ids = generator.encode(prompt);
  Generation generation;
  generation.prompt_tokens = static_cast<int64_t>(ids.size());
  Impl::Call call(*impl_);
  call.add(generator.submit(std::move(ids), params));
  while (!generator.idle())
    for (TextEvent& event : generator.step()) {
      add_token(generation, event.token, params);
      watch.token(generation);
      generation.text += event.text;
      generation.finish_reason = event.finish_reason;
      if (on_text && !event.text.empty() && !on_text(event.text)) {
        generation.finish_reason = "stop";
        return generation;
      }
    }
  return generation;
}

std::vector<Generation> Session::generate_all(const std::vector<std::string>& prompts, const SamplingParams& params) {
  TextGenerator& generator = impl_->generator();
  std::vector<Generation> generations(prompts.size());
  std::vector<Stopwatch> watches(prompts.size());
  Impl::Call call(*impl_);
  for (size_t i = 0; i < prompts.size(); ++i) {
    Scope scope(format("prompt {}", i + 1));
    if (prompts[i].empty()) fail(ErrorCode::kUsage, "it is empty");
    std::vector<int32_t> ids = generator.encode(prompts[i]);
    generations[i].prompt_tokens = static_cast<int64_t>(ids.size());
    call.add(generator.submit(std::move(ids), params));
  }
  while (!generator.idle())
    for (TextEvent& event : generator.step()) {
      const size_t place = call.place(event.request);
      Generation& generation = generations[place];
      add_token(generation, event.token, params);
      watches[place].token(generation);
      generation.text += event.text;
      generation.finish_reason = event.finish_reason;
    }
  return generations;
}

Generation Session::generate_ids(const std::vector<int32_t>& prompt, const SamplingParams& params) {
  Stopwatch watch;
  Generation generation;
  generation.prompt_tokens = static_cast<int64_t>(prompt.size());
  Impl::Call call(*impl_);
  call.add(impl_->tokens.submit({prompt, params}));
  while (!impl_->tokens.idle())
    for (const TokenEvent& event : impl_->tokens.step()) {
      add_token(generation, event.token, params);
      watch.token(generation);
      generation.finish_reason = event.finish_reason;
    }
  return generation;
}

}  // namespace ingot
