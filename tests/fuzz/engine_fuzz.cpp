// Any bytes as an engine file: an Error, or a plan that satisfies its checks and weights that lie inside of the file.
// Checksums would stop nearly every input at the door, so the bytes are also read as what lies behind them: as the text
// of a plan, and as a header and a plan in a file whose checksums fit.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/error.h"
#include "plan/check_plan.h"
#include "plan/engine_file.h"
#include "plan/engine_format.h"
#include "plan/plan_json.h"

namespace {

using namespace ingot;

void check_file(std::span<const std::byte> file) {
  try {
    EngineContent content = read_engine(file);
    check_plan(content.plan);
    if (weight_section_bytes(content.plan) != content.weights.size()) std::abort();
    if (!content.weights.empty() && (content.weights.data() < file.data() ||
                                     content.weights.data() + content.weights.size() > file.data() + file.size()))
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

// A file whose plan section and header hold the two texts, and whose checksums fit. The header may name the right
// checksum of the plan with "$".
void check_sections(std::string_view plan, std::string header) {
  std::string file(kEngineSectionAlignment, '\0');
  file += plan;
  file.resize((file.size() + kEngineSectionAlignment - 1) / kEngineSectionAlignment * kEngineSectionAlignment);
  if (size_t place = header.find('$'); place != std::string::npos) header.replace(place, 1, hex64(hash64(plan)));
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

// The header that fits the plan exactly.
std::string fitting_header(std::string_view plan) {
  auto section = [](const char* name, uint64_t offset, uint64_t bytes) {
    Json json = Json::object();
    json.set("name", name);
    json.set("offset", offset);
    json.set("bytes", bytes);
    json.set("block_bytes", kEngineBlockBytes);
    json.set("checksums", Json::array());
    return json;
  };
  Json sections = Json::array();
  sections.push(section("weights", kEngineSectionAlignment, 0));
  Json plan_section = section("plan", kEngineSectionAlignment, plan.size());
  if (!plan.empty()) plan_section.set("checksums", Json::Array{hex64(hash64(plan))});
  sections.push(std::move(plan_section));
  Json header = Json::object();
  header.set("content_hash", content_hash_of(sections));
  header.set("sections", std::move(sections));
  return header.dump();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  check_file(bytes);
  std::string_view text(reinterpret_cast<const char*>(data), size);
  check_text(text);
  check_sections(text, fitting_header(text));
  // A line break separates a header from a plan.
  if (size_t end = text.find('\n'); end != std::string_view::npos)
    check_sections(text.substr(end + 1), std::string(text.substr(0, end)));
  return 0;
}
