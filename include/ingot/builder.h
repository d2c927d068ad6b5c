// Building engines: a Hugging Face checkpoint in, an engine directory out.
//
//   ingot::PretrainedModel model = ingot::PretrainedModel::from_pretrained("path/to/checkpoint");
//   ingot::BuildConfig config;
//   config.max_seq_len = 4096;
//   ingot::BuildReport report = ingot::build_engine_dir(model, config, "path/to/engine");
//
// `Builder` is the same in steps, for several builds that share their measured times.
//
// Every function throws ingot::Error (ingot/error.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
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
  std::string target = "cpu";          // cpu, cpu:portable, cpu:avx2, cpu:avx512, cpu:amx, cuda, cuda:sm_90a, …
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
  PretrainedModel(const PretrainedModel&) = default;  // and no move: what is moved from stays whole
  PretrainedModel& operator=(const PretrainedModel&) = default;
  // A Hugging Face directory.
  static PretrainedModel from_pretrained(const std::string& directory);
  // Random normal weights for a config.json (or a directory with one): the same seed gives the same weights.
  static PretrainedModel from_config(const std::string& config_json, uint64_t seed = 0);

  std::string architecture() const;
  std::string config_json() const;

  struct Impl;
  Impl& impl() const { return *impl_; }

 private:
  PretrainedModel() = default;
  std::shared_ptr<Impl> impl_;
};

// Called during a build: the phase, and how much of it is done (0 … 1).
using ProgressCallback = std::function<void(std::string_view phase, double done)>;

// Builds into `directory`, which is created; what stood there is replaced only once the new engine is complete.
BuildReport build_engine_dir(const PretrainedModel& model, const BuildConfig& config, const std::string& directory,
                             const ProgressCallback& progress = {});

// All that shapes an engine but the model: the configuration with its target resolved for this machine, the device, and
// the versions of Ingot and of what its kernels are made of. An engine is worth building again when this text differs.
std::string build_identity(const BuildConfig& config);

// Everything a build would decide, without an engine. It measures as a build does: config.timing_cache gets the times.
BuildReport plan_only(const PretrainedModel& model, const BuildConfig& config, const ProgressCallback& progress = {});

// JSON with "builder_config" that load_config reads back. Atomic and synced.
void save_config(const BuildConfig& config, const std::string& path);
BuildConfig load_config(const std::string& path);

// What builds have measured, kept in memory. Handed on from BuilderConfig to BuilderConfig; one build uses it at a
// time.
class TimingCache;

struct BuilderOptions {
  // A file to start from, or the cache of another BuilderConfig, which both then share. A file that is missing or
  // cannot be read is told on stderr, and a fresh cache takes its place. No file is written but by
  // Builder::save_timing_cache.
  std::variant<std::string, std::shared_ptr<TimingCache>> timing_cache = {};
  int64_t tensor_parallel = 1;  // this version: 1
  bool use_refit = false;       // this version: false, as the next two
  bool int8 = false;
  bool fp8 = false;
  bool strongly_typed = true;                     // this version: true
  std::optional<int> opt_level = {};              // empty: the one of `build`
  std::map<std::string, std::string> extra = {};  // attributes of your own, kept and saved
  BuildConfig build = {};                         // the limits; its `timing_cache` stays empty
};

// How a Builder builds: made by Builder::create_builder_config, immutable but for the times that builds add. Copies
// share these times.
class BuilderConfig {
 public:
  BuilderConfig(const BuilderConfig&) = default;  // and no move: what is moved from stays whole
  BuilderConfig& operator=(const BuilderConfig&) = default;
  const std::string& precision() const { return build_.dtype; }
  const BuildConfig& build_config() const { return build_; }
  const std::map<std::string, std::string>& extra() const { return extra_; }
  const std::shared_ptr<TimingCache>& timing_cache() const { return times_; }  // never null

 private:
  friend class Builder;
  BuilderConfig() = default;
  BuildConfig build_;
  std::map<std::string, std::string> extra_;
  std::shared_ptr<TimingCache> times_;
};

// The builder's network: a model's graph before any pass, in the checkpoint's precision and at the model's full length.
// A build loads the model anew, in the precision and with the limits of its BuilderConfig. (ingot::Network is the graph
// itself and not part of this interface.)
class NetworkDefinition {
 public:
  NetworkDefinition(const NetworkDefinition&) = default;  // and no move: what is moved from stays whole
  NetworkDefinition& operator=(const NetworkDefinition&) = default;
  std::string text() const;                           // the form of docs/ir.md
  std::vector<std::string> named_parameters() const;  // the weights, in the order of their use

 private:
  friend class Builder;
  NetworkDefinition() = default;
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

// Builds in steps: a network, a configuration, an engine directory.
class Builder {
 public:
  NetworkDefinition create_network(const PretrainedModel& model) const;
  // `precision` is float32, float16 or bfloat16. What this version cannot do is refused here, with the reason.
  BuilderConfig create_builder_config(const std::string& precision, const BuilderOptions& options = {}) const;
  // As build_engine_dir. Times from before an Error are kept in config.timing_cache(), too.
  BuildReport build_engine(const NetworkDefinition& network, const BuilderConfig& config, const std::string& directory,
                           const ProgressCallback& progress = {}) const;

  // The times that `config` started from and those of its builds, as docs/timing_cache.md. Atomic and synced.
  static void save_timing_cache(const BuilderConfig& config, const std::string& path);
  // {"builder_config": {"precision", …, the settings of BuildConfig, the attributes}, "plugin_config": {}}, which
  // load_config reads back, with a fresh timing cache. Atomic and synced.
  static void save_config(const BuilderConfig& config, const std::string& path);
  static BuilderConfig load_config(const std::string& path);
};

}  // namespace ingot
