// The engine file: weights and plan in one file that is mapped and used in place (docs/engine_format.md).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "plan/plan.h"

namespace ingot {

// Changes whenever a reader of the old form would misread the new one.
constexpr uint32_t kEngineFormatVersion = 2;

// Writes an engine file in one pass. Nothing is left behind unless finish() returns. The same weights and plan give the
// same bytes.
class EngineWriter {
 public:
  explicit EngineWriter(const Path& path);
  ~EngineWriter();

  // Appends to the weight section, in the order of the plan; the pieces of one weight may come one by one.
  void write_weights(std::span<const std::byte> bytes);
  // Appends zeros until the weight section has `offset` bytes: before each weight, its PlanWeight::offset.
  void pad_weights_to(uint64_t offset);
  uint64_t weight_bytes() const;

  // Writes the modules (all of them, each at its PlanModule::offset), the plan and the header, syncs and renames.
  // Returns the content hash: 16 hexadecimal digits that stand for every byte of plan, modules and weights.
  std::string finish(const Plan& plan, std::span<const std::byte> modules = {});

 private:
  struct Section;
  void write_section(Section& section, std::span<const std::byte> bytes);
  Json write_whole_section(std::string_view name, std::span<const std::byte> bytes);

  AtomicFile file_;
  std::unique_ptr<Section> weights_;
};

struct EngineReadOptions {
  bool verify_weights = true;  // compare the checksums of the weight section; plan and header are always verified
  int threads = 1;             // for that
};

// An engine file, mapped and validated: everything in plan() satisfies check_plan, and its weights and
// modules lie in weights() and modules().
class EngineFile {
 public:
  // Throws an Error with ErrorCode::kIncompatible that names the section or field that is damaged, or the version found
  // and needed; kRuntime when the file cannot be read at all.
  static EngineFile open(const Path& path, const EngineReadOptions& options = {});

  const Plan& plan() const { return plan_; }
  std::span<const std::byte> weights() const { return weights_; }
  std::span<const std::byte> modules() const { return modules_; }
  const std::string& content_hash() const { return content_hash_; }
  // What open() does with verify_weights.
  void verify_weights(int threads) const;
  // Where the weights begin in the file, and the checksums (hex64) of their blocks of kEngineBlockBytes.
  uint64_t weights_offset() const { return static_cast<uint64_t>(weights_.data() - file_.bytes().data()); }
  const std::vector<std::string>& weight_checksums() const { return weight_checksums_; }
  uint64_t bytes() const { return file_.bytes().size(); }

 private:
  MappedFile file_;
  Plan plan_;
  std::span<const std::byte> weights_, modules_;
  std::vector<std::string> weight_checksums_;
  std::string content_hash_;
};

// The same for bytes in memory, which begin at a multiple of 64: what open() does behind the mapping.
struct EngineContent {
  Plan plan;
  std::span<const std::byte> weights, modules;  // inside the bytes given
  std::vector<std::string> weight_checksums;
  std::string content_hash;
};
EngineContent read_engine(std::span<const std::byte> bytes, const EngineReadOptions& options = {});

}  // namespace ingot
