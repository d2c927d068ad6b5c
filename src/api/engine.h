// What stands behind a public Engine.
#pragma once

#include "base/mapped_file.h"
#include "ingot/engine.h"
#include "runtime/loaded_engine.h"

namespace ingot {

// A directory that is removed with the last engine that needs it; empty for one that stays.
class OwnedDirectory {
 public:
  OwnedDirectory() = default;
  explicit OwnedDirectory(Path path) : path_(std::move(path)) {}
  ~OwnedDirectory();
  OwnedDirectory(const OwnedDirectory&) = delete;
  OwnedDirectory& operator=(const OwnedDirectory&) = delete;

 private:
  Path path_;
};

struct Engine::Impl {
  std::shared_ptr<const OwnedDirectory> directory;
  std::shared_ptr<const LoadedEngine> loaded;
};

}  // namespace ingot
