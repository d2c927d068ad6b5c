// Built engines.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ingot/builder.h"
#include "ingot/error.h"

namespace ingot {

struct EngineOptions {
  bool verify = true;  // compare the checksums of the weights while loading
};

// An engine, loaded and validated: immutable, cheap to copy, shared between sessions and threads. Its weights stay in
// the mapped file.
class Engine;
class PretrainedModel;
Engine build(const PretrainedModel& model, const BuildConfig& config);

class Engine {
 public:
  Engine(const Engine&) = default;  // and no move: what is moved from stays whole
  Engine& operator=(const Engine&) = default;
  // A directory that a build wrote. Throws an Error with kIncompatible when the engine is damaged, of another format
  // version, or needs what this machine lacks.
  static Engine from_dir(const std::string& directory, const EngineOptions& options = {});
  // Writes the same engine to another directory: a new one, an empty one, or an engine's, which it replaces.
  void save(const std::string& directory) const;

  std::string directory() const;
  std::string architecture() const;
  std::string dtype() const;   // "bfloat16"
  std::string target() const;  // "cpu:avx512"
  std::string content_hash() const;
  int64_t max_seq_len() const;
  int64_t max_batch_size() const;
  int64_t weight_bytes() const;
  std::string config_json() const;  // {"version", "content_hash", "pretrained_config", "build_config"}

  struct Impl;
  const std::shared_ptr<const Impl>& impl() const { return impl_; }

 private:
  friend Engine build(const PretrainedModel& model, const BuildConfig& config);
  Engine() = default;
  std::shared_ptr<const Impl> impl_;
};

// Builds `model` into `directory` and loads the result.
Engine build(const PretrainedModel& model, const BuildConfig& config, const std::string& directory);
// The same into a temporary directory that lives as long as the engine; Engine::save keeps it.
Engine build(const PretrainedModel& model, const BuildConfig& config);

}  // namespace ingot
