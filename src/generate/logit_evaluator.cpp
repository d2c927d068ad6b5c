#include "generate/logit_evaluator.h"

#include <algorithm>

#include "base/error.h"

namespace ingot {

LogitEvaluator::LogitEvaluator(std::shared_ptr<const LoadedEngine> engine, const StepRunnerOptions& options)
    : runner_(std::move(engine), options) {}

void LogitEvaluator::run(const std::vector<EvaluatedSequence>& sequences, const Receive& receive) {
  Scheduler scheduler(runner_.groups(), runner_.pool(), runner_.limits());
  // However this ends, the pool gets its pages back.
  OnExit release([&] {
    for (size_t i = 0; i < sequences.size(); ++i) scheduler.remove(i);
  });
  for (size_t i = 0; i < sequences.size(); ++i) {
    for (int32_t id : sequences[i].ids)
      if (id < 0 || id >= vocab_size())
        fail(ErrorCode::kUsage, "the id {} is outside the vocabulary of {}", id, vocab_size());
    scheduler.add({.id = i,
                   .tokens = sequences[i].ids,
                   .max_new_tokens = 0,
                   .max_chunk = sequences[i].chunk_tokens,
                   .every_position = true});
  }
  // A preempted sequence runs again from its beginning; each position is told once.
  std::vector<int64_t> told(sequences.size(), 0);
  auto vocab = static_cast<size_t>(vocab_size());
  for (StepBatch batch; scheduler.next(batch);) {
    std::span<float> logits = runner_.run(batch);
    for (size_t row = 0; row < batch.outputs.size(); ++row) {
      auto sequence = static_cast<size_t>(batch.outputs[row].request);
      int64_t position = batch.outputs[row].position;
      if (position != told[sequence]) continue;
      ++told[sequence];
      receive(sequence, position, logits.subspan(row * vocab, vocab));
    }
    for (size_t i = 0; i < sequences.size(); ++i)
      if (told[i] == static_cast<int64_t>(sequences[i].ids.size())) scheduler.remove(i);
  }
}

std::vector<float> evaluate_logits(std::shared_ptr<const LoadedEngine> engine, const std::vector<int32_t>& ids,
                                   const StepRunnerOptions& options, int64_t chunk_tokens) {
  LogitEvaluator evaluator(std::move(engine), options);
  std::vector<float> all(ids.size() * static_cast<size_t>(evaluator.vocab_size()));
  evaluator.run({{ids, chunk_tokens}}, [&](size_t, int64_t position, std::span<float> logits) {
    std::copy(logits.begin(), logits.end(), all.begin() + position * evaluator.vocab_size());
  });
  return all;
}

}  // namespace ingot
