// The models that the end-to-end tests use, and short ways to build them.
#pragma once

#include <filesystem>
#include <string>

#include "e2e/temporary_directory.h"
#include "ingot/builder.h"
#include "ingot/engine.h"

namespace ingot {

inline std::filesystem::path repository() { return INGOT_SOURCE_DIR; }
inline std::string baker_7m() { return (repository() / "examples/baker-7m").string(); }
inline std::string toy_model(const std::string& name) { return (repository() / "tests/data/models" / name).string(); }
// Files that are not part of the repository; tests skip by name without them.
inline std::filesystem::path shared_file(const std::string& path) { return repository() / "../shared" / path; }

inline BuildConfig untuned(const std::string& dtype) {
  BuildConfig config;
  config.dtype = dtype;
  config.opt_level = 0;
  config.threads = 2;
  return config;
}

// Built without measuring, and gone with the last copy of the engine.
inline Engine quick_engine(const std::string& model, BuildConfig config = untuned("float32")) {
  return build(PretrainedModel::from_pretrained(model), config);
}

// baker-7m in float32, built once per process.
inline const Engine& baker_engine() {
  static const Engine engine = quick_engine(baker_7m());
  return engine;
}

// A copy of a model that a test may damage.
inline std::string copy_of_model(const std::string& model, const TemporaryDirectory& directory) {
  std::string copy = directory / "model";
  std::filesystem::create_directories(copy);
  for (const auto& entry : std::filesystem::directory_iterator(model))
    if (entry.path().filename() != "golden.safetensors")
      std::filesystem::copy_file(entry.path(), copy / entry.path().filename());
  for (const auto& entry : std::filesystem::directory_iterator(copy))
    std::filesystem::permissions(entry.path(), std::filesystem::perms::owner_write, std::filesystem::perm_options::add);
  return copy;
}

}  // namespace ingot
