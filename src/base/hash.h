// XXH3 hashes: content hashes of files, plans and kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace ingot {

uint64_t hash64(std::span<const std::byte> bytes);
uint64_t hash64(std::string_view text);

// 64 bits as 16 lower-case hexadecimal digits.
std::string hex64(uint64_t value);

// A hash of a stream of pieces; equal to the hash of their concatenation.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;
  void add(std::span<const std::byte> bytes);
  void add(std::string_view text);
  uint64_t digest() const;

 private:
  void* state_;
};

}  // namespace ingot
