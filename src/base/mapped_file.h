// Files: read-only mappings, and writes that either finish completely or leave nothing behind.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace ingot {

using Path = std::filesystem::path;

// A file mapped read-only. The bytes stay valid for the object's lifetime. Throws Error when it cannot be opened.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const Path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  const Path& path() const { return path_; }
  // Tells the kernel that a range will be read soon (and once), or is not needed any more.
  void will_need(size_t offset, size_t size) const;
  void drop(size_t offset, size_t size) const;

 private:
  Path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// A new file under a temporary name beside `path`. commit() syncs it and renames it to `path`; without commit the
// temporary file is removed. Every failing write throws an Error with the reason (disk full, no permission …).
class AtomicFile {
 public:
  explicit AtomicFile(const Path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);                      // appends
  void write(std::string_view text);                                 // appends
  void write_at(uint64_t offset, std::span<const std::byte> bytes);  // does not move the append position
  void pad_to(uint64_t offset);                                      // appends zero bytes
  uint64_t position() const { return position_; }
  // Starts writing back what was written so far, without waiting, so that commit has little left to do.
  void start_writeback();
  void commit();

 private:
  Path path_, temporary_;
  int fd_ = -1;
  uint64_t position_ = 0, written_back_ = 0;
};

std::string read_text_file(const Path& path);
void write_text_file(const Path& path, std::string_view text);  // atomic and synced

}  // namespace ingot
