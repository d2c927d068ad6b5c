// An engine directory that is filled under a temporary name and then takes its place.
#pragma once

#include <array>
#include <filesystem>
#include <vector>

#include "base/folder_lock.h"

namespace ingot {

// What an engine directory takes over from the model's, so that it runs alone.
inline constexpr std::array kEngineCompanions = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                                 "generation_config.json", "chat_template.jinja"};

// `final` with ".building" and the process behind it, or, where `final` is there already, that name inside of it: its
// parent may be another file system, or not ours to write. It is removed again, with the parents made for it, unless it
// is committed. A build that is killed leaves its directory; the next one to the same place removes it and says so.
class NewDirectory {
 public:
  // Throws a usage Error when `final` exists and is neither empty nor an engine's.
  explicit NewDirectory(const std::filesystem::path& final);
  ~NewDirectory();
  NewDirectory(const NewDirectory&) = delete;
  NewDirectory& operator=(const NewDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

  // A new directory takes its place at once. Into one that exists the files move one by one, config.json first and
  // rank0.engine last, and nobody else's in between: what ends that leaves two that name different contents. Companions
  // that only the old engine had go; what else the directory held stays.
  void commit();

 private:
  void create();
  void remove();
  void remove_left_over() const;
  void move_files(std::error_code& error) const;

  std::filesystem::path final_, path_;
  std::vector<std::filesystem::path> new_parents_;
  FolderLock lock_;  // says that this process lives
};

}  // namespace ingot
