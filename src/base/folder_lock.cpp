#include "base/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace ingot {

FolderLock::FolderLock(const Path& folder, int how) {
  file_ = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file_ < 0) return;
  int result = 0;
  do {
    result = flock(file_, how);
  } while (result != 0 && errno == EINTR);
  if (result != 0) close(std::exchange(file_, -1));
}

FolderLock FolderLock::try_take(const Path& folder) { return {folder, LOCK_EX | LOCK_NB}; }
FolderLock FolderLock::take(const Path& folder) { return {folder, LOCK_EX}; }

FolderLock::~FolderLock() {
  if (file_ >= 0) close(file_);
}

FolderLock::FolderLock(FolderLock&& other) noexcept : file_(std::exchange(other.file_, -1)) {}

FolderLock& FolderLock::operator=(FolderLock&& other) noexcept {
  std::swap(file_, other.file_);
  return *this;
}

}  // namespace ingot
