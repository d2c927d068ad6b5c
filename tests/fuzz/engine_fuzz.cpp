// Any bytes as an engine file: an Error, or a plan that satisfies its checks and weights that lie inside of the file.
// Checksums would stop nearly every input at the door, so the bytes are also read as what lies behind them: as the text
// of a plan, and as a header and a plan in a file whose checksums fit and that holds the weights and modules of the
// plan.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <tuple>

#include "base/error.h"
#include "plan/check_plan.h"
#include "plan/engine_file.h"
#include "plan/engine_format.h"
#include "plan/plan_json.h"

namespace {

using namespace ingot;

uint64_t aligned(uint64_t offset) {
  return (offset + kEngineSectionAlignment - 1) / kEngineSectionAlignment * kEngineSectionAlignment;
}

void check_file(std::span<const std::byte> file) {
  try {
    EngineContent content = read_engine(file);
    check_plan(content.plan);
    if (weight_section_bytes(content.plan) != content.weights.size()) std::abort();
    if (module_section_bytes(content.plan) != content.modules.size()) std::abort();
    for (std::span<const std::byte> section : {content.weights, content.modules})
      if (!section.empty() &&
          (section.data() < file.data() || section.data() + section.size() > file.data() + file.size()))
        std::abort();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kIncompatible) std::abort();
  }
}

void check_text(std::string_view text) {
  try {
    Plan plan = plan_from_json(parse_json(text));
    check_plan(plan);
    if (plan_from_json(plan_to_json(plan)) != plan) std::abort();
  } catch (const Error&) {
  }
}

// A file whose sections and header hold what is given, and whose checksums fit.
void check_sections(const std::string& weights, const std::string& modules, std::string_view plan,
                    const std::string& header) {
  std::string file(kEngineSectionAlignment, '\0');
  for (std::string_view section : {std::string_view(weights), std::string_view(modules), plan}) {
    file += section;
    file.resize(aligned(file.size()));
  }
  EnginePreamble preamble;
  preamble.version = kEngineFormatVersion;
  preamble.header_offset = file.size();
  preamble.header_bytes = header.size();
  preamble.header_checksum = hash64(header);
  file += header;
  preamble.file_bytes = file.size();
  preamble.checksum = preamble_checksum(preamble);
  std::memcpy(file.data(), &preamble, sizeof preamble);
  check_file(std::as_bytes(std::span(file.data(), file.size())));
}

// The header that fits the sections exactly.
std::string fitting_header(const std::string& weights, const std::string& modules, std::string_view plan) {
  Json sections = Json::array();
  uint64_t offset = kEngineSectionAlignment;
  auto add = [&](const char* name, std::string_view bytes) {
    Json checksums = Json::array();
    if (!bytes.empty()) checksums.push(hex64(hash64(bytes)));
    Json json = Json::object();
    json.set("name", name);
    json.set("offset", offset);
    json.set("bytes", bytes.size());
    json.set("block_bytes", kEngineBlockBytes);
    json.set("checksums", std::move(checksums));
    sections.push(std::move(json));
    offset = aligned(offset + bytes.size());
  };
  add("weights", weights);
  add("modules", modules);
  add("plan", plan);
  Json header = Json::object();
  header.set("content_hash", content_hash_of(sections));
  header.set("sections", std::move(sections));
  return header.dump();
}

// Weights and modules as large as a plan asks for; empty for text that is no plan, or a plan too large to be tried
// often.
std::pair<std::string, std::string> contents_for(std::string_view text) {
  constexpr uint64_t kMost = 64 << 10;
  uint64_t weights = 0, modules = 0;
  try {
    Plan plan = plan_from_json(parse_json(text));
    check_plan(plan);
    weights = weight_section_bytes(plan), modules = module_section_bytes(plan);
  } catch (const Error&) {
  }
  return {std::string(weights <= kMost ? weights : 0, 'w'), std::string(modules <= kMost ? modules : 0, 'm')};
}

std::string with_content_hash(const std::string& header) {
  try {
    Json json = parse_json(header);
    json.set("content_hash", content_hash_of(json.at("sections")));
    return json.dump();
  } catch (const Error&) {
    return header;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  check_file(bytes);
  std::string_view text(reinterpret_cast<const char*>(data), size);
  check_text(text);
  auto [weights, modules] = contents_for(text);
  check_sections(weights, modules, text, fitting_header(weights, modules, text));
  // A line break separates a header from a plan; a section table gets the content hash that belongs to it.
  if (size_t end = text.find('\n'); end != std::string_view::npos) {
    std::string header(text.substr(0, end));
    std::string_view plan = text.substr(end + 1);
    std::tie(weights, modules) = contents_for(plan);
    check_sections(weights, modules, plan, header);
    check_sections(weights, modules, plan, with_content_hash(header));
  }
  return 0;
}
