// The logits of every position of given token sequences, through the same packed steps that generate: for perplexity
// and for comparison with other implementations.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "generate/step_runner.h"

namespace ingot {

struct EvaluatedSequence {
  std::vector<int32_t> ids;
  int64_t chunk_tokens = 0;  // tokens of it in one step; 0: as many as a step can give logits for
};

class LogitEvaluator {
 public:
  LogitEvaluator(std::shared_ptr<const LoadedEngine> engine, const StepRunnerOptions& options);

  // Called with the logits after ids[0 … position] of a sequence. They may be changed, and are gone afterwards.
  using Receive = std::function<void(size_t sequence, int64_t position, std::span<float> logits)>;
  // Runs the sequences side by side, as far as the engine's limits allow. Errors as for TokenSession::submit.
  void run(const std::vector<EvaluatedSequence>& sequences, const Receive& receive);

  int64_t vocab_size() const { return runner_.vocab_size(); }
  const ScheduleLimits& limits() const { return runner_.limits(); }
  StepRunner& runner() { return runner_; }

 private:
  StepRunner runner_;
};

// All of them for one sequence: [ids, vocabulary].
std::vector<float> evaluate_logits(std::shared_ptr<const LoadedEngine> engine, const std::vector<int32_t>& ids,
                                   const StepRunnerOptions& options = {}, int64_t chunk_tokens = 0);

}  // namespace ingot
