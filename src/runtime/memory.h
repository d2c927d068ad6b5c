// Zeroed memory straight from the system: reserved at once, paid for when first touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

namespace ingot {

class LazyMemory {
 public:
  LazyMemory() = default;
  // At least `bytes` bytes at a multiple of 2 MiB. `what` is for the Error (kDoesNotFit) when there is no address
  // space.
  LazyMemory(uint64_t bytes, std::string_view what, bool huge_pages);
  ~LazyMemory();
  LazyMemory(LazyMemory&& other) noexcept
      : mapping_(std::exchange(other.mapping_, nullptr)),
        mapped_(other.mapped_),
        data_(other.data_),
        size_(other.size_) {}
  LazyMemory& operator=(LazyMemory&& other) noexcept {
    std::swap(mapping_, other.mapping_);
    std::swap(mapped_, other.mapped_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }
  // Gives the whole system pages inside a range back; they read as zero from then on.
  void drop(uint64_t offset, uint64_t bytes) const;

 private:
  void* mapping_ = nullptr;
  uint64_t mapped_ = 0;
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

// What this process could still take without swapping: of the machine, and of its control group.
uint64_t available_memory_bytes();

}  // namespace ingot
