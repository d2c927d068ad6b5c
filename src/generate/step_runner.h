// Runs packed steps of a language model: the engine, its states and the inputs that a StepBatch fills.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "generate/pad_decodes.h"
#include "generate/scheduler.h"
#include "runtime/execution_context.h"

namespace ingot {

struct StepRunnerOptions {
  int threads = 0;               // 0: what the engine was tuned for, else all usable CPUs
  uint64_t kv_cache_memory = 0;  // bytes; 0: what max_batch_size full sequences need, at most half of the free memory
                                 // of a machine or 90 % of a GPU's
  double kv_cache_fraction = 0;  // with kv_cache_memory 0: this part of the free memory; 0: see there
  // At most what the engine was built for; 0: that.
  int64_t max_batch_size = 0, max_num_tokens = 0, max_seq_len = 0;
};

class StepRunner {
 public:
  // Throws an Error with ErrorCode::kIncompatible when the engine's entry "main" is not a language model: it needs an
  // input that no step has, or has no logits f32 [outputs, vocabulary].
  StepRunner(std::shared_ptr<const LoadedEngine> engine, const StepRunnerOptions& options);

  const ScheduleLimits& limits() const { return limits_; }
  StatePool& pool() { return *pool_; }
  const std::vector<CacheGroup>& groups() const { return engine_->plan().groups; }
  int64_t vocab_size() const { return vocab_size_; }
  ExecutionContext& context() { return *context_; }
  const LoadedEngine& engine() const { return *engine_; }

  // The logits of each output row, valid until the next run; they may be changed. `batch` must stay until then.
  std::span<float> run(StepBatch& batch);

  // Whether the engine chooses tokens by itself, as batch.sampling says, and reads them as ids below 0.
  bool chooses_tokens() const { return chosen_ >= 0; }
  // Starts a step of such an engine. The parts of `results`: the chosen ids of batch.outputs; what it tells of them,
  // likeliest and logprobs, both empty unless `told`; then the logits of these rows of them.
  void start(StepBatch& batch, bool told, std::span<const size_t> logit_rows, Readback& results);
  Readback make_readback() const { return Readback(engine_->device()); }

 private:
  // What a StepBatch has for an input, with the capacity of its memory.
  using Pick = std::span<const std::byte> (*)(const StepBatch&, size_t group);
  struct BoundInput {
    std::string name;
    Pick pick;
    size_t group = 0;
  };

  void find_inputs();
  void find_limits(const StepRunnerOptions& options);
  std::vector<int64_t> wanted_pages() const;
  uint64_t default_kv_cache_memory(const StepRunnerOptions& options) const;
  void set(std::string_view symbol, int64_t value);
  void bind(StepBatch& batch);

  std::shared_ptr<const LoadedEngine> engine_;
  std::unique_ptr<ExecutionContext> context_;
  std::unique_ptr<StatePool> pool_;
  ScheduleLimits limits_;
  PaddingLimits padded_limits_;
  int64_t vocab_size_ = 0;
  size_t logits_ = 0, likeliest_ = 0, logprobs_ = 0;  // places of outputs in the plan
  int64_t chosen_ = -1;
  int64_t seats_ = 0;
  bool may_skip_outputs_ = true;  // steps without an output row run as such
  std::vector<BoundInput> inputs_;
  std::vector<OutputPart> parts_;
  std::vector<std::string> page_symbols_, pool_symbols_;
  std::vector<int64_t> values_;  // per symbol of the engine
};

}  // namespace ingot
