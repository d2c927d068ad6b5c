// Building engines: a Hugging Face checkpoint in, an engine directory out.
//
//   ingot::PretrainedModel model = ingot::PretrainedModel::from_pretrained("path/to/checkpoint");
//   ingot::BuildConfig config;
//   config.max_seq_len = 4096;
//   ingot::BuildReport report = ingot::build_engine_dir(model, config, "path/to/engine");
//
// Every function throws ingot::Error (ingot/error.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ingot {

// What to build. Zero and empty mean "choose for me"; the report says what was chosen and why.
struct BuildConfig {
  int64_t max_batch_size = 16;  // sequences in one step
  int64_t max_input_len = 0;    // tokens of a prompt; 0: max_seq_len
  int64_t max_seq_len = 0;      // tokens of prompt and answer together; 0: what the model was made for
  int64_t max_num_tokens = 0;   // tokens of one step, prefill chunks and decodes together; 0: 1024
  int64_t max_beam_width = 1;
  int64_t tokens_per_block = 32;       // positions in a page of the KV cache
  bool gather_context_logits = false;  // one step may give the logits of all its tokens, not only of a few rows
  std::string kv_cache_type;           // "paged", or empty
  std::string dtype;                   // float32, float16 or bfloat16; empty: the checkpoint's
  std::string target = "cpu";          // cpu, cpu:portable, cpu:avx2, cpu:avx512, cpu:amx
  int threads = 0;                     // that the engine is tuned for; 0: all this process may use
  int opt_level = 3;                   // 0: no measuring … 5: most careful
  bool strongly_typed = true;
  bool use_paged_context_fmha = true;  // prompts read the paged KV cache; false is overridden
  bool frozen = false;                 // fail when the timing cache lacks a time
  bool strict = false;                 // an override is an error
  int64_t max_host_bytes = 0;          // fail when the build needs more anonymous memory; 0: no limit
  std::string timing_cache;            // file to read and to extend; empty: none is kept
  std::string tactic_sources;          // "+cpu.matmul_avx2,-cpu.matmul_portable"
  std::vector<std::string> disable;    // passes to leave out
};

// A setting that was asked for and is not used as asked.
struct Override {
  std::string setting, asked, used, reason;
};

struct BuildReport {
  std::string engine_dir;
  std::vector<std::pair<std::string, double>> seconds;  // per phase, in order
  int64_t peak_host_bytes = 0;                          // anonymous memory
  int64_t engine_bytes = 0;
  std::string content_hash;
  int64_t problems = 0, cache_hits = 0, measured = 0;
  std::vector<Override> overrides;
  std::vector<std::string> remarks;
};

// A checkpoint opened for building: configuration and tensor headers; weights stay on disk.
class PretrainedModel {
 public:
  // A Hugging Face directory.
  static PretrainedModel from_pretrained(const std::string& directory);
  // Random normal weights for a config.json (or a directory with one): the same seed gives the same weights.
  static PretrainedModel from_config(const std::string& config_json, uint64_t seed = 0);

  std::string architecture() const;
  std::string config_json() const;

  struct Impl;
  Impl& impl() const { return *impl_; }

 private:
  std::shared_ptr<Impl> impl_;
};

// Called during a build: the phase, and how much of it is done (0 … 1).
using ProgressCallback = std::function<void(std::string_view phase, double done)>;

// Builds into `directory`, which is created; what stood there is replaced only once the new engine is complete.
BuildReport build_engine_dir(const PretrainedModel& model, const BuildConfig& config, const std::string& directory,
                             const ProgressCallback& progress = {});

// Everything a build would decide, and nothing written.
BuildReport plan_only(const PretrainedModel& model, const BuildConfig& config);

// JSON with "builder_config" that load_config reads back. Atomic and synced.
void save_config(const BuildConfig& config, const std::string& path);
BuildConfig load_config(const std::string& path);

}  // namespace ingot
