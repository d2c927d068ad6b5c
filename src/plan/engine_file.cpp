#include "plan/engine_file.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/error.h"
#include "base/thread_pool.h"
#include "plan/check_plan.h"
#include "plan/engine_format.h"
#include "plan/plan_json.h"

namespace ingot {

namespace {

using Bytes = std::span<const std::byte>;

struct Section {
  uint64_t offset = 0, bytes = 0;
  std::vector<std::string> checksums;
};

template <class... T>
[[noreturn]] void refuse(format_string<T...> text, T&&... values) {
  throw Error(ErrorCode::kIncompatible, fmt::vformat(text, fmt::make_format_args(values...)));
}

std::string_view text_of(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

EnginePreamble read_preamble(Bytes file) {
  Scope scope("preamble");
  EnginePreamble preamble;
  if (file.size() < sizeof preamble)
    refuse("the file has {} bytes; an engine has at least {}", file.size(), sizeof preamble);
  std::memcpy(&preamble, file.data(), sizeof preamble);
  if (preamble.magic != kEngineMagic) refuse("this is not an engine file: it does not begin with INGOTENG");
  if (preamble.version != kEngineFormatVersion)
    refuse("the format version is {}; this build of ingot reads version {}: build the engine again", preamble.version,
           kEngineFormatVersion);
  if (preamble.checksum != preamble_checksum(preamble)) refuse("damaged: the checksum does not match");
  if (preamble.preamble_bytes != sizeof preamble || preamble.reserved != 0)
    refuse("damaged: {} bytes, reserved field {}", preamble.preamble_bytes, preamble.reserved);
  if (preamble.file_bytes != file.size())
    refuse("the file has {} bytes where {} were written: it was truncated or extended", file.size(),
           preamble.file_bytes);
  uint64_t end = 0;
  if (preamble.header_offset % kEngineSectionAlignment != 0 || preamble.header_offset < kEngineSectionAlignment ||
      __builtin_add_overflow(preamble.header_offset, preamble.header_bytes, &end) || end != file.size())
    refuse("the header range of {} bytes at {} does not end the file", preamble.header_bytes, preamble.header_offset);
  return preamble;
}

uint64_t read_size(const Json& json, std::string_view key) {
  int64_t value = json.at(key).as_int();
  if (value < 0) refuse("key \"{}\": found {} where a size is needed", key, value);
  return static_cast<uint64_t>(value);
}

void check_members(const Json& json, size_t count) {
  if (json.as_object().size() != count) refuse("{} members where {} are known", json.as_object().size(), count);
}

// One row of the section table; `previous_end` is where the section before it ends.
Section read_section(const Json& json, std::string_view name, uint64_t previous_end, uint64_t limit) {
  Scope scope(format("section {}", name));
  check_members(json, 5);
  if (json.at("name").as_string() != name) refuse("found the section {} in its place", json.at("name").as_string());
  Section section{read_size(json, "offset"), read_size(json, "bytes"), {}};
  uint64_t needed = (previous_end + kEngineSectionAlignment - 1) / kEngineSectionAlignment * kEngineSectionAlignment;
  if (section.offset != needed) refuse("the offset is {}, not {}", section.offset, needed);
  if (section.offset > limit || section.bytes > limit - section.offset)
    refuse("{} bytes at {} exceed the {} bytes before the header", section.bytes, section.offset, limit);
  if (read_size(json, "block_bytes") != kEngineBlockBytes)
    refuse("key \"block_bytes\": {} where {} is needed", read_size(json, "block_bytes"), kEngineBlockBytes);
  value_from_json(json.at("checksums"), section.checksums);
  uint64_t blocks = (section.bytes + kEngineBlockBytes - 1) / kEngineBlockBytes;
  if (section.checksums.size() != blocks)
    refuse("{} checksums for {} blocks of {} bytes", section.checksums.size(), blocks, kEngineBlockBytes);
  return section;
}

void verify(Bytes bytes, const std::vector<std::string>& checksums, std::string_view name, int threads) {
  auto blocks = static_cast<int64_t>(checksums.size());
  std::atomic<int64_t> damaged{-1};
  ThreadPool pool(static_cast<int>(std::clamp<int64_t>(blocks, 1, std::max(1, threads))));
  pool.parallel_for(blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      uint64_t offset = static_cast<uint64_t>(i) * kEngineBlockBytes;
      uint64_t hash = hash64(bytes.subspan(offset, std::min<uint64_t>(kEngineBlockBytes, bytes.size() - offset)));
      if (hex64(hash) != checksums[static_cast<size_t>(i)]) damaged = i;
    }
  });
  if (damaged >= 0)
    refuse("section {}: damaged: the checksum of block {} of {} does not match", name, damaged.load(), blocks);
}

void check_zeros(Bytes file, uint64_t begin, uint64_t end) {
  for (uint64_t i = begin; i < end; ++i)
    if (file[i] != std::byte{0}) refuse("damaged: the padding byte at {} is not zero", i);
}

EngineContent read_checked(Bytes file, const EngineReadOptions& options) {
  EnginePreamble preamble = read_preamble(file);
  std::string_view header_text = text_of(file.subspan(preamble.header_offset, preamble.header_bytes));
  Section weights, modules, plan;
  EngineContent content;
  {
    Scope scope("header");
    if (hash64(header_text) != preamble.header_checksum) refuse("damaged: the checksum does not match");
    Json header = parse_json(header_text);
    check_members(header, 2);
    const Json& sections = header.at("sections");
    if (sections.as_array().size() != 3) refuse("there are {} sections, not 3", sections.as_array().size());
    uint64_t limit = preamble.header_offset;
    weights = read_section(sections.as_array()[0], "weights", sizeof preamble, limit);
    modules = read_section(sections.as_array()[1], "modules", weights.offset + weights.bytes, limit);
    plan = read_section(sections.as_array()[2], "plan", modules.offset + modules.bytes, limit);
    content.content_hash = header.at("content_hash").as_string();
    if (content.content_hash != content_hash_of(sections)) refuse("the content hash does not match the sections");
    if (preamble.header_offset - (plan.offset + plan.bytes) >= kEngineSectionAlignment)
      refuse("bytes that belong to no section lie before it");
  }
  check_zeros(file, sizeof preamble, weights.offset);
  check_zeros(file, weights.offset + weights.bytes, modules.offset);
  check_zeros(file, modules.offset + modules.bytes, plan.offset);
  check_zeros(file, plan.offset + plan.bytes, preamble.header_offset);
  verify(file.subspan(modules.offset, modules.bytes), modules.checksums, "modules", 1);
  verify(file.subspan(plan.offset, plan.bytes), plan.checksums, "plan", 1);
  Scope scope("section plan");
  content.plan = plan_from_json(parse_json(text_of(file.subspan(plan.offset, plan.bytes))));
  check_plan(content.plan);
  if (weight_section_bytes(content.plan) != weights.bytes)
    refuse("its weights take {} bytes; the section weights has {}", weight_section_bytes(content.plan), weights.bytes);
  if (module_section_bytes(content.plan) != modules.bytes)
    refuse("its modules take {} bytes; the section modules has {}", module_section_bytes(content.plan), modules.bytes);
  content.modules = file.subspan(modules.offset, modules.bytes);
  content.weights = file.subspan(weights.offset, weights.bytes);
  if (options.verify_weights) verify(content.weights, weights.checksums, "weights", options.threads);
  content.weight_checksums = std::move(weights.checksums);
  return content;
}

}  // namespace

EngineContent read_engine(Bytes bytes, const EngineReadOptions& options) {
  try {
    return read_checked(bytes, options);
  } catch (const Error& error) {
    throw error.with_code(ErrorCode::kIncompatible);  // JSON and names are read by code that knows no engines
  }
}

EngineFile EngineFile::open(const Path& path, const EngineReadOptions& options) {
  EngineFile engine;
  engine.file_ = MappedFile(path);
  Scope scope(path.string());
  EngineContent content = read_engine(engine.file_.bytes(), options);
  engine.plan_ = std::move(content.plan);
  engine.weights_ = content.weights;
  engine.modules_ = content.modules;
  engine.weight_checksums_ = std::move(content.weight_checksums);
  engine.content_hash_ = std::move(content.content_hash);
  return engine;
}

void EngineFile::verify_weights(int threads) const { verify(weights_, weight_checksums_, "weights", threads); }

}  // namespace ingot
