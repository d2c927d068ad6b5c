#include "runtime/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>

#include "base/error.h"

namespace ingot {

namespace {
constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;

// The first number of a small system file; nullopt when it cannot be read or says "max".
std::optional<uint64_t> read_number(const char* path) {
  std::ifstream file(path);
  uint64_t number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

uint64_t machine_available_bytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("MemAvailable:")) return std::strtoull(line.c_str() + 13, nullptr, 10) * 1024;
  return static_cast<uint64_t>(sysconf(_SC_AVPHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}
}  // namespace

LazyMemory::LazyMemory(uint64_t bytes, std::string_view what, bool huge_pages) : size_(bytes) {
  if (bytes == 0) return;
  uint64_t total = 0;
  bool overflow = __builtin_add_overflow(bytes, kHugePageBytes, &total);
  void* mapping =
      overflow ? MAP_FAILED
               : mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED)
    fail(ErrorCode::kDoesNotFit, "cannot reserve {} for {}: {}", print_bytes(static_cast<double>(bytes)), what,
         std::strerror(overflow ? EOVERFLOW : errno));
  mapping_ = mapping;
  mapped_ = total;
  auto address = reinterpret_cast<uintptr_t>(mapping);
  data_ = reinterpret_cast<std::byte*>((address + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes);
  if (huge_pages && bytes >= kHugePageBytes) madvise(data_, bytes, MADV_HUGEPAGE);
}

LazyMemory::~LazyMemory() {
  if (mapping_) munmap(mapping_, mapped_);
}

void LazyMemory::drop(uint64_t offset, uint64_t bytes) const {
  auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  uint64_t begin = (offset + page - 1) / page * page, end = (offset + bytes) / page * page;
  if (begin < end) madvise(data_ + begin, end - begin, MADV_DONTNEED);
}

uint64_t available_memory_bytes() {
  uint64_t available = machine_available_bytes();
  auto limit = read_number("/sys/fs/cgroup/memory.max"), used = read_number("/sys/fs/cgroup/memory.current");
  if (limit && used) available = std::min(available, *limit > *used ? *limit - *used : 0);
  return available;
}

}  // namespace ingot
