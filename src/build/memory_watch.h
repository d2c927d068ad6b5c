// The peak of a process's anonymous memory: heap and stacks, not mapped files.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

namespace ingot {

// Samples on a thread of its own while it lives.
class MemoryWatch {
 public:
  MemoryWatch();
  ~MemoryWatch();
  int64_t peak_bytes() const;

 private:
  std::atomic<bool> stopping_{false};
  mutable std::atomic<int64_t> peak_{0};
  std::thread thread_;
};

// RssAnon of this process now.
int64_t anonymous_memory_bytes();

}  // namespace ingot
