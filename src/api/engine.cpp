#include "api/engine.h"

#include <unistd.h>

#include <cstdlib>

#include "base/error.h"
#include "base/fields.h"
#include "build/build_config.h"
#include "build/new_directory.h"
#include "device/target.h"
#include "inspect/bench.h"
#include "inspect/devices.h"
#include "inspect/quality.h"

namespace ingot {

namespace {
const Json& build_config(const LoadedEngine& engine) { return engine.config().at("build_config"); }

void check_config(const LoadedEngine& engine, const std::string& directory) {
  for (const char* key : {"pretrained_config", "build_config"})
    if (!engine.config().is_object() || !engine.config().find(key))
      fail(ErrorCode::kIncompatible, "{}: there is no config.json with \"{}\" beside the engine; build it again",
           directory, key);
  Scope scope(format("{}/config.json: key \"build_config\"", directory));
  try {
    check_resolved(build_config_from_json(build_config(engine)));
  } catch (const Error& error) {
    throw error.with_code(ErrorCode::kIncompatible);
  }
}

}  // namespace

OwnedDirectory::~OwnedDirectory() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

Engine Engine::from_dir(const std::string& directory, const EngineOptions& options) {
  Engine engine;
  auto loaded = LoadedEngine::load(directory, {.verify_weights = options.verify});
  check_config(*loaded, directory);
  engine.impl_ = std::make_shared<Impl>(Impl{nullptr, std::move(loaded)});
  return engine;
}

void Engine::save(const std::string& directory) const {
  NewDirectory copy(directory);
  for (const auto& entry : std::filesystem::directory_iterator(impl_->loaded->directory()))
    if (entry.is_regular_file())
      write_text_file(copy.path() / entry.path().filename(), MappedFile(entry.path()).text());
  copy.commit();
}

std::string Engine::directory() const { return impl_->loaded->directory().string(); }
std::string Engine::architecture() const {
  const Json* names = impl_->loaded->config().at("pretrained_config").find("architectures");
  return names && !names->as_array().empty() ? names->as_array()[0].as_string() : "";
}
std::string Engine::dtype() const { return engine_dtype(*impl_->loaded); }
std::string Engine::target() const { return impl_->loaded->plan().programs.at(0).target; }
std::string Engine::content_hash() const { return impl_->loaded->content_hash(); }
int64_t Engine::max_seq_len() const { return build_config(*impl_->loaded).get("max_seq_len", 0); }
int64_t Engine::max_batch_size() const { return build_config(*impl_->loaded).get("max_batch_size", 0); }
int64_t Engine::weight_bytes() const {
  int64_t bytes = 0;
  for (const PlanWeight& weight : impl_->loaded->plan().weights) bytes += static_cast<int64_t>(weight.bytes);
  return bytes;
}
std::string Engine::config_json() const { return impl_->loaded->config().dump(2); }

Engine build(const PretrainedModel& model, const BuildConfig& config, const std::string& directory) {
  build_engine_dir(model, config, directory);
  return Engine::from_dir(directory);
}

Engine build(const PretrainedModel& model, const BuildConfig& config) {
  std::string name = (std::filesystem::temp_directory_path() / "ingot-XXXXXX").string();
  if (!mkdtemp(name.data())) fail(ErrorCode::kRuntime, "cannot create a temporary directory like {}", name);
  auto owned = std::make_shared<const OwnedDirectory>(name);
  build_engine_dir(model, config, name);
  Engine engine;
  engine.impl_ = std::make_shared<Engine::Impl>(Engine::Impl{owned, LoadedEngine::load(name)});
  return engine;
}

Perplexity perplexity(const Engine& engine, const std::string& text, int64_t window, int threads,
                      const ProgressCallback& progress) {
  return measure_perplexity(engine.impl()->loaded, text, window, threads, progress);
}

Verification verify(const Engine& engine, const std::string& reference, double tolerance, int threads) {
  return compare_logits(engine.impl()->loaded, reference, tolerance, threads);
}

std::vector<BenchRow> bench(const Engine& engine, const BenchOptions& options, const ProgressCallback& progress) {
  return measure_speed(engine.impl()->loaded, options, progress);
}

std::string devices() { return describe_devices().dump(2); }

void mask_cpu(const std::string& level) { mask_cpu_features(parse_enum<CpuLevel>(level)); }

}  // namespace ingot
