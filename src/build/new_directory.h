// An engine directory that is filled under a temporary name and then takes its place at once.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace ingot {

// `final` with ".building" and the process behind it. It is removed again, with the parents made for it, unless it is
// committed. A build that is killed leaves its directory; the next one to the same place removes it and says so.
class NewDirectory {
 public:
  // Throws a usage Error when `final` exists and is neither empty nor an engine's.
  explicit NewDirectory(const std::filesystem::path& final);
  ~NewDirectory();
  NewDirectory(const NewDirectory&) = delete;
  NewDirectory& operator=(const NewDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

  // Moves every file to its place. Those of `companions` that only the old directory holds go; what else it held stays.
  void commit(std::span<const char* const> companions);

 private:
  void create();
  void remove();
  void remove_left_over() const;

  std::filesystem::path final_, path_;
  std::vector<std::filesystem::path> new_parents_;
  int lock_ = -1;  // on the directory, as long as this process lives
};

}  // namespace ingot
