#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"

namespace ingot {

MappedFile::MappedFile(const Path& path) : path_(path) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(ErrorCode::kRuntime, "cannot open {}: {}", path.string(), std::strerror(errno));
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    fail(ErrorCode::kRuntime, "{} is not a regular file", path.string());
  }
  size_ = static_cast<size_t>(info.st_size);
  if (size_ > 0) {
    void* mapping = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
    int reason = errno;
    close(fd);
    if (mapping == MAP_FAILED) fail(ErrorCode::kRuntime, "cannot map {}: {}", path.string(), std::strerror(reason));
    data_ = static_cast<const std::byte*>(mapping);
  } else {
    close(fd);
  }
}

MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

namespace {
void advise(const std::byte* data, size_t file_size, size_t offset, size_t size, int advice) {
  if (!data || offset >= file_size) return;
  size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  size_t begin = offset / page * page;
  size_t end = std::min(file_size, offset + size);
  madvise(const_cast<std::byte*>(data) + begin, end - begin, advice);
}
}  // namespace

void MappedFile::will_need(size_t offset, size_t size) const { advise(data_, size_, offset, size, MADV_WILLNEED); }
void MappedFile::drop(size_t offset, size_t size) const { advise(data_, size_, offset, size, MADV_DONTNEED); }

AtomicFile::AtomicFile(const Path& path) : path_(path), temporary_(path) {
  temporary_ += ".tmp" + std::to_string(getpid());
  fd_ = open(temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) fail(ErrorCode::kRuntime, "cannot create {}: {}", temporary_.string(), std::strerror(errno));
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write_at(position_, bytes);
  position_ += bytes.size();
}

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

void AtomicFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    ssize_t n = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail(ErrorCode::kRuntime, "cannot write {}: {}", path_.string(), std::strerror(n < 0 ? errno : ENOSPC));
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
}

void AtomicFile::pad_to(uint64_t offset) {
  static constexpr size_t kChunk = 4096;
  static const std::vector<std::byte> zeros(kChunk);
  while (position_ < offset) write(std::span(zeros).first(std::min<uint64_t>(kChunk, offset - position_)));
}

void AtomicFile::start_writeback() {
  sync_file_range(fd_, static_cast<off_t>(written_back_), static_cast<off_t>(position_ - written_back_),
                  SYNC_FILE_RANGE_WRITE);
  written_back_ = position_;
}

void AtomicFile::commit() {
  if (fsync(fd_) != 0) fail(ErrorCode::kRuntime, "cannot sync {}: {}", path_.string(), std::strerror(errno));
  if (rename(temporary_.c_str(), path_.c_str()) != 0)
    fail(ErrorCode::kRuntime, "cannot rename {} to {}: {}", temporary_.string(), path_.string(), std::strerror(errno));
  close(std::exchange(fd_, -1));
  Path folder = path_.has_parent_path() ? path_.parent_path() : Path(".");
  int directory = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory >= 0) {
    fsync(directory);
    close(directory);
  }
}

std::string read_text_file(const Path& path) { return std::string(MappedFile(path).text()); }

void write_text_file(const Path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace ingot
