// What the tools show about models, engines and machines.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ingot/engine.h"

namespace ingot {

// --- estimate
// ---------------------------------------------------------------------------------------------------------

// What a build and a run would take, from headers alone.
struct Estimate {
  std::string architecture, dtype, target;
  int64_t parameters = 0;
  int64_t weight_bytes = 0;        // of the engine
  int64_t kv_bytes_per_token = 0;  // of a sequence that is within every window
  int64_t max_seq_len = 0, max_batch_size = 0;
  int64_t kv_bytes_full = 0;             // max_batch_size sequences of max_seq_len
  int64_t working_bytes = 0;             // arena and logits
  int64_t memory_bytes = 0;              // what there is
  int64_t tokens_that_fit = 0;           // of KV cache beside weights and working memory; 0: not even the weights fit
  bool fits = false;                     // one sequence of max_seq_len
  std::string ceilings;                  // where the next two are from: "measured", "a table (NVIDIA H200)", "unknown"
  double read_bytes_per_second = 0;      // 0 when unknown
  double matmul_flops = 0;               // of a GPU
  double decode_tokens_per_second = 0;   // roofline, one sequence
  int64_t prefill_tokens = 0;            // of the prompt that the next is for
  double prefill_tokens_per_second = 0;  // roofline; 0 when unknown
  double build_seconds = 0;              // reading and writing the weights
  std::string advice;                    // when it does not fit: limits that would
};
// memory_bytes, of the card if the target is a GPU; 0: what this machine, or its GPU, has available. For a GPU that is
// not here, the memory and the rates of one that was measured earlier, if there is one of the same architecture.
Estimate estimate(const PretrainedModel& model, const BuildConfig& config, int64_t memory_bytes = 0);

// --- quality
// ----------------------------------------------------------------------------------------------------------

struct Perplexity {
  double perplexity = 0, nll = 0;
  int64_t tokens = 0, windows = 0;
};
// One token stream t with t[0] = BOS; window k feeds t[k·W … k·W+W−1] alone and predicts t[k·W+1 … k·W+W]; only full
// windows count.
Perplexity perplexity(const Engine& engine, const std::string& text, int64_t window, int threads,
                      const ProgressCallback& progress = {});

struct Verification {
  double relative_error = 0;  // ‖a−b‖ / ‖b‖ over all logits
  double max_abs_error = 0;
  double top1_agreement = 0;  // 0 … 1
  int64_t greedy_match_tokens = 0, greedy_tokens = 0;
  double tolerance = 0;
  bool passed = false;
};
// Compares with a safetensors file that holds input_ids and logits, and perhaps prompt and greedy. tolerance 0: 1e-4 in
// float32, else 3e-2.
Verification verify(const Engine& engine, const std::string& reference, double tolerance, int threads);

// --- speed
// ------------------------------------------------------------------------------------------------------------

struct BenchOptions {
  std::vector<int64_t> prompt_tokens = {512};
  std::vector<int64_t> new_tokens = {64};
  std::vector<int64_t> batch_sizes = {1};
  int threads = 0;  // 0: what the engine was tuned for
  int repetitions = 5;
};
struct BenchRow {
  std::string phase;  // "prefill" or "decode"
  int64_t batch_size = 0, prompt_tokens = 0, new_tokens = 0, context = 0;
  std::string dtype, target;
  int threads = 0;
  double ms_mean = 0, ms_stddev = 0, tokens_per_second = 0;
  double bytes_per_step = 0, flops = 0;
  std::string ceiling_name;
  double ceiling_bytes_per_second = 0, ceiling_flops = 0, ceiling_share = 0;
};
// Workload and ceilings take turns; the share is the median of the turns' ratios.
std::vector<BenchRow> bench(const Engine& engine, const BenchOptions& options, const ProgressCallback& progress = {});

// --- what is there
// ----------------------------------------------------------------------------------------------------

struct InspectOptions {
  bool layers = false, tactics = false, memory = false, graph = false;
};
// JSON about an engine directory or file, a checkpoint directory, a safetensors file or a timing cache.
std::string inspect(const std::string& path, const InspectOptions& options);

// JSON: {"cpu": {...}, "gpus": [...], "libraries": [...]}.
std::string devices();

// Lowers what CPU features are reported and used: "avx2", "avx512", "portable". For tests.
void mask_cpu(const std::string& level);

}  // namespace ingot
