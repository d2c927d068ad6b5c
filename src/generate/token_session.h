// Many requests over one engine, token ids in and out: submit, then step until idle.
//
// Where the engine chooses tokens itself (on GPUs), the session is one step ahead: a step is planned and started before
// the tokens of the step in front of it are known here. Its decodes read them on the device. A request whose token
// turns out to end it has one more token under way then, which nobody hears of. max_tokens is known ahead, so nothing
// is started behind it.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "generate/sampler.h"
#include "generate/scheduler.h"
#include "generate/step_runner.h"

namespace ingot {

struct TokenSessionOptions {
  StepRunnerOptions runner;
  // The ids that end an answer; unset: those of the engine directory's generation_config.json.
  std::optional<std::vector<int32_t>> eos_ids;
  bool run_ahead = true;  // where the engine allows it; tokens are the same without
};

struct TokenRequest {
  std::vector<int32_t> ids;  // the prompt
  SamplingParams params;     // stop strings are the business of whoever makes text
};

struct TokenEvent {
  uint64_t request = 0;
  SampledToken token;
  // Empty while the answer goes on; "stop": this token ends it by its meaning; "length": max_tokens is reached.
  std::string finish_reason;
};

// For one thread. The same request gives the same tokens whatever runs beside it.
class TokenSession {
 public:
  explicit TokenSession(std::shared_ptr<const LoadedEngine> engine, const TokenSessionOptions& options = {});
  ~TokenSession();

  // Queues a request. Throws a usage Error for an empty prompt, ids outside the vocabulary, parameters out of range,
  // and more tokens than the engine's limits, and an Error with kDoesNotFit for more than the KV cache could ever hold;
  // the message says the limit.
  uint64_t submit(TokenRequest request);
  // The results of one step: a token for some of the requests. A request is forgotten once its last token is told.
  std::vector<TokenEvent> step();
  // Forgets a request; no event comes of it. Unknown ids are ignored.
  void cancel(uint64_t id);
  bool idle() const { return scheduler_.idle(); }

  // The most tokens that may be asked for after a prompt of so many; 0 or less when it is too long.
  int64_t max_new_tokens(int64_t prompt_tokens) const;
  const std::vector<int32_t>& eos_ids() const { return eos_ids_; }
  const ScheduleLimits& limits() const { return runner_.limits(); }
  int64_t vocab_size() const { return runner_.vocab_size(); }
  const Scheduler& scheduler() const { return scheduler_; }
  StepRunner& runner() { return runner_; }

 private:
  struct Running {
    Sampler sampler;
    std::vector<int32_t> stops;
    int64_t under_way = 0;  // tokens that are chosen in steps that were started
  };
  // A step that was started.
  struct Flight {
    std::vector<StepBatch::Output> outputs;
    std::vector<size_t> logit_rows;  // outputs whose logits come along
    Readback results;
  };

  void check(const TokenRequest& request) const;
  std::string finish_reason(const Running& running, int32_t id) const;
  std::vector<TokenEvent> step_on_host();
  bool start_flight();
  std::vector<TokenEvent> land_flight();
  bool is_awaited(const Flight& flight) const;
  TokenEvent accept(uint64_t id, Running& running, SampledToken token);

  StepRunner runner_;
  Scheduler scheduler_;
  StepBatch batch_;
  std::vector<int32_t> eos_ids_;
  int64_t max_input_len_ = 0;
  uint64_t next_id_ = 1;
  std::unordered_map<uint64_t, std::unique_ptr<Running>> requests_;
  std::vector<SampledToken> sampled_;
  bool run_ahead_ = true;
  std::deque<Flight> flights_;  // that were started, the oldest first
  std::vector<Flight> landed_;  // kept for their memory
};

// The eos_token_id (one or a list) of a directory's generation_config.json; without one, of the pretrained_config in
// the engine's config.json; empty when neither has it.
std::vector<int32_t> read_eos_ids(const LoadedEngine& engine);

}  // namespace ingot
