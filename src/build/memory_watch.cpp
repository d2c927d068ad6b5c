#include "build/memory_watch.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

namespace ingot {

int64_t anonymous_memory_bytes() {
  int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char text[4096];
  ssize_t size = read(fd, text, sizeof text - 1);
  close(fd);
  if (size <= 0) return 0;
  text[size] = 0;
  const char* line = std::strstr(text, "RssAnon:");
  return line ? std::atoll(line + 8) * 1024 : 0;
}

MemoryWatch::MemoryWatch()
    : thread_([this] {
        while (!stopping_) {
          peak_ = std::max(peak_.load(), anonymous_memory_bytes());
          std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
      }) {}

MemoryWatch::~MemoryWatch() {
  stopping_ = true;
  thread_.join();
}

int64_t MemoryWatch::peak_bytes() const { return std::max(peak_.load(), anonymous_memory_bytes()); }

}  // namespace ingot
