// One at a time, among threads and processes: a lock on a folder, which needs no file of its own.
#pragma once

#include "base/mapped_file.h"

namespace ingot {

// Released with the object, and by the system when the process ends.
class FolderLock {
 public:
  FolderLock() = default;
  // Holds nothing when somebody else does, or where the file system knows no locks.
  static FolderLock try_take(const Path& folder);
  // Waits until it is free. Holds nothing where the file system knows no locks.
  static FolderLock take(const Path& folder);
  ~FolderLock();
  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&& other) noexcept;

  bool held() const { return file_ >= 0; }

 private:
  FolderLock(const Path& folder, int how);
  int file_ = -1;
};

}  // namespace ingot
