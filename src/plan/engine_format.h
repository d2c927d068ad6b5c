// The parts of an engine file that its writer and its reader share.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/json.h"

namespace ingot {

constexpr uint64_t kEngineSectionAlignment = 4096;
// Checksums are kept per block, so that several threads can verify a section.
constexpr uint64_t kEngineBlockBytes = uint64_t{16} << 20;
constexpr std::array<char, 8> kEngineMagic = {'I', 'N', 'G', 'O', 'T', 'E', 'N', 'G'};

// The first bytes of the file; little endian.
struct EnginePreamble {
  std::array<char, 8> magic = kEngineMagic;
  uint32_t version = 0;
  uint32_t preamble_bytes = 64;
  uint64_t header_offset = 0, header_bytes = 0, header_checksum = 0;
  uint64_t file_bytes = 0;
  uint64_t reserved = 0;
  uint64_t checksum = 0;  // of the bytes before it
};
static_assert(sizeof(EnginePreamble) == 64);

inline uint64_t preamble_checksum(const EnginePreamble& preamble) {
  return hash64(std::as_bytes(std::span(&preamble, 1)).first(sizeof(EnginePreamble) - sizeof preamble.checksum));
}

// The content hash covers the section table, and with it the checksum of every byte of every section.
inline std::string content_hash_of(const Json& sections) { return hex64(hash64(sections.dump())); }

}  // namespace ingot
