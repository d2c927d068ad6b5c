#include <algorithm>
#include <cassert>

#include "base/error.h"
#include "plan/check_plan.h"
#include "plan/engine_file.h"
#include "plan/engine_format.h"
#include "plan/plan_json.h"

namespace ingot {

// A section while it is written: its place, and the checksums of its blocks so far.
struct EngineWriter::Section {
  uint64_t offset = 0, bytes = 0;
  std::optional<Hasher> block;
  Json checksums = Json::array();

  uint64_t left_in_block() const { return kEngineBlockBytes - bytes % kEngineBlockBytes; }
  void add(std::span<const std::byte> piece) {
    if (!block) block.emplace();
    block->add(piece);
    bytes += piece.size();
    if (bytes % kEngineBlockBytes == 0) close_block();
  }
  void close_block() {
    if (block) checksums.push(hex64(block->digest()));
    block.reset();
  }
  Json describe(std::string_view name) {
    close_block();
    Json json = Json::object();
    json.set("name", name);
    json.set("offset", offset);
    json.set("bytes", bytes);
    json.set("block_bytes", kEngineBlockBytes);
    json.set("checksums", std::move(checksums));
    return json;
  }
};

namespace {
uint64_t aligned(uint64_t offset) {
  return (offset + kEngineSectionAlignment - 1) / kEngineSectionAlignment * kEngineSectionAlignment;
}
std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
}  // namespace

EngineWriter::EngineWriter(const Path& path) : file_(path), weights_(std::make_unique<Section>()) {
  file_.pad_to(kEngineSectionAlignment);
  weights_->offset = file_.position();
}

EngineWriter::~EngineWriter() = default;

uint64_t EngineWriter::weight_bytes() const { return weights_->bytes; }

void EngineWriter::write_section(Section& section, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    auto piece = bytes.first(std::min<uint64_t>(bytes.size(), section.left_in_block()));
    file_.write(piece);
    section.add(piece);
    if (section.bytes % kEngineBlockBytes == 0) file_.start_writeback();
    bytes = bytes.subspan(piece.size());
  }
}

void EngineWriter::write_weights(std::span<const std::byte> bytes) { write_section(*weights_, bytes); }

void EngineWriter::pad_weights_to(uint64_t offset) {
  static constexpr std::array<std::byte, 4096> kZeros{};
  assert(offset >= weights_->bytes);
  while (weights_->bytes < offset)
    write_weights(std::span(kZeros).first(std::min<uint64_t>(kZeros.size(), offset - weights_->bytes)));
}

Json EngineWriter::write_whole_section(std::string_view name, std::span<const std::byte> bytes) {
  Section section;
  file_.pad_to(aligned(file_.position()));
  section.offset = file_.position();
  write_section(section, bytes);
  return section.describe(name);
}

std::string EngineWriter::finish(const Plan& plan, std::span<const std::byte> modules) {
  Scope scope("engine file");
  check_plan(plan);
  if (weight_section_bytes(plan) != weights_->bytes)
    fail(ErrorCode::kRuntime, "{} bytes of weights were written where the plan has {}", weights_->bytes,
         weight_section_bytes(plan));
  if (module_section_bytes(plan) != modules.size())
    fail(ErrorCode::kRuntime, "{} bytes of modules are given where the plan has {}", modules.size(),
         module_section_bytes(plan));
  Json sections = Json::array();
  sections.push(weights_->describe("weights"));
  file_.start_writeback();
  sections.push(write_whole_section("modules", modules));
  sections.push(write_whole_section("plan", bytes_of(plan_to_json(plan).dump())));

  Json header = Json::object();
  std::string content_hash = content_hash_of(sections);
  header.set("content_hash", content_hash);
  header.set("sections", std::move(sections));
  std::string text = header.dump();

  EnginePreamble preamble;
  preamble.version = kEngineFormatVersion;
  file_.pad_to(aligned(file_.position()));
  preamble.header_offset = file_.position();
  preamble.header_bytes = text.size();
  preamble.header_checksum = hash64(text);
  file_.write(text);
  preamble.file_bytes = file_.position();
  preamble.checksum = preamble_checksum(preamble);
  file_.write_at(0, std::as_bytes(std::span(&preamble, 1)));
  file_.commit();
  return content_hash;
}

}  // namespace ingot
