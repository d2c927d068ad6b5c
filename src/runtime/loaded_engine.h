// A plan on a device: an engine that is loaded and ready to run, shared by any number of contexts.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "device/cuda/device.h"
#include "kernels/kernel.h"
#include "plan/engine_file.h"

namespace ingot {

// scale * values[symbol] + offset, where `symbol` counts LoadedEngine::symbols(); -1 for a constant.
struct ResolvedDim {
  int64_t scale = 0, offset = 0;
  int symbol = -1;
};

struct ResolvedArgument {
  BufferKind kind = BufferKind::kArena;
  size_t index = 0;
  uint64_t offset = 0;
  const std::byte* weight = nullptr;
  Argument argument;  // dtype and rank; sizes where they are constant
  std::array<ResolvedDim, 4> dims{};
};

struct ResolvedStep {
  const Kernel* kernel = nullptr;
  size_t first_argument = 0, arguments = 0;
  uint64_t scratch_offset = 0;
};

struct ResolvedRange {
  int symbol = 0;
  int64_t min = 0, max = 0;
};

// A program with every name looked up, so that running it needs neither a map nor an allocation.
struct ResolvedProgram {
  std::string name;  // "program 2 (main, tokens 3..8)": its place in the plan, its entry and its first range
  const Program* program = nullptr;
  std::vector<ResolvedRange> ranges;
  std::vector<ResolvedStep> steps;
  std::vector<ResolvedArgument> arguments;  // of all steps, one after the other
};

struct EngineLoadOptions {
  bool verify_weights = true;
  int threads = 0;  // for verifying; 0: all usable CPUs, up to 8
};

// Immutable. Weights are pointers into the mapped file, or into the memory of the GPU that the programs are for.
class LoadedEngine {
 public:
  // `path` is an engine directory (rank0.engine beside config.json) or an engine file alone. Throws an Error with
  // ErrorCode::kIncompatible when the file is damaged or of another version, when this machine cannot run any of its
  // programs (with the reason), or when this build lacks one of its kernels or weight layouts.
  static std::shared_ptr<const LoadedEngine> load(const Path& path, const EngineLoadOptions& options = {});

  const Plan& plan() const { return file_.plan(); }
  // The directory's config.json; null when a file alone was loaded.
  const Json& config() const { return config_; }
  // Empty when a file alone was loaded.
  const Path& directory() const { return directory_; }
  const std::string& content_hash() const { return file_.content_hash(); }
  uint64_t file_bytes() const { return file_.bytes(); }
  // Stored bytes on the host.
  std::span<const std::byte> weight(size_t index) const;
  // The GPU that the programs run on; null for the CPU.
  const cuda::DevicePtr& device() const { return device_; }

  // The names of all dimensions, sorted; where `symbol` stands among them, or -1.
  const std::vector<std::string>& symbols() const { return symbols_; }
  int find_symbol(std::string_view symbol) const;

  // The programs for `entry` that this machine can run, cheapest first: the one with the fewest tokens at most.
  std::vector<const ResolvedProgram*> programs(std::string_view entry) const;

 private:
  LoadedEngine() = default;
  void read_config(const Path& file);
  void check_weights() const;
  void open_device();
  std::span<const std::byte> module_image(std::string_view name) const;
  void resolve();
  void resolve_symbols();
  const Kernel* kernel_for(const Step& step);
  ResolvedProgram resolve_program(const Program& program);
  ResolvedArgument resolve_argument(const BufferRef& ref) const;

  EngineFile file_;
  cuda::DevicePtr device_;
  cuda::Memory device_weights_;
  Json config_;
  Path directory_;
  std::vector<std::string> symbols_;
  std::vector<ResolvedProgram> programs_;
  std::vector<std::pair<std::string, std::unique_ptr<Kernel>>> kernels_;  // by name and parameters, sorted
};

}  // namespace ingot
