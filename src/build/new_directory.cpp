#include "build/new_directory.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/log.h"

namespace ingot {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEnding = ".building";
constexpr std::string_view kLostAndFound = "lost+found";  // stands in every new ext4 file system
constexpr std::string_view kConfigFile = "config.json", kEngineFile = "rank0.engine";

// The process in the name of a directory that is being built: `name` and ".building" and a number. Inside of what it is
// to become, `name` is empty.
std::optional<pid_t> builder_of(const fs::path& directory, const std::string& name) {
  std::string found = directory.filename().string(), prefix = name + std::string(kEnding);
  if (!found.starts_with(prefix)) return std::nullopt;
  pid_t process = 0;
  const char *begin = found.data() + prefix.size(), *end = found.data() + found.size();
  auto [stop, error] = std::from_chars(begin, end, process);
  if (error != std::errc() || stop != end || process <= 0) return std::nullopt;
  return process;
}

// Numbers come back, this process's own too. A process of another container, which shares the disk but not the numbers,
// holds the lock.
bool is_abandoned(const fs::path& directory, pid_t builder) {
  if (builder != getpid() && (kill(builder, 0) == 0 || errno != ESRCH)) return false;
  return FolderLock::try_take(directory).held();
}

// Engine files may replace what stands here: nothing, or an engine. Anything else is somebody's, perhaps by a mistyped
// name, and its config.json and tokenizer.json would be lost.
void check_replaceable(const fs::path& final) {
  if (!fs::exists(fs::symlink_status(final))) return;
  if (!fs::is_directory(final)) fail(ErrorCode::kUsage, "{} exists and is not a directory", final.string());
  if (fs::exists(final / kEngineFile)) return;
  for (const auto& entry : fs::directory_iterator(final))
    if (!builder_of(entry.path(), "") && entry.path().filename() != kLostAndFound)
      fail(ErrorCode::kUsage,
           "{} exists and is no engine directory: it holds {} and no {}; name a new directory, an empty one or an "
           "engine's",
           final.string(), entry.path().filename().string(), kEngineFile);
}

fs::path with_ending(const fs::path& final) {
  const std::string ending = std::string(kEnding) + std::to_string(getpid());
  if (fs::exists(final)) return final / ending;
  fs::path path = final;
  return path += ending;
}

// The directories in `folder` that builds of `name` left and nobody holds.
void find_left_over(const fs::path& folder, const std::string& name, std::vector<fs::path>& left) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    auto builder = builder_of(entry->path(), name);
    if (builder && entry->is_directory(error) && is_abandoned(entry->path(), *builder)) left.push_back(entry->path());
  }
}

}  // namespace

NewDirectory::NewDirectory(const fs::path& final) : final_(final.has_filename() ? final : final.parent_path()) {
  check_replaceable(final_);
  path_ = with_ending(final_);
  remove_left_over();
  create();
  lock_ = FolderLock::try_take(path_);
}

NewDirectory::~NewDirectory() {
  if (!path_.empty()) remove();
}

void NewDirectory::create() {
  std::error_code error;
  for (fs::path parent = path_.parent_path(); !parent.empty() && !fs::exists(parent, error);
       parent = parent.parent_path())
    new_parents_.push_back(parent);
  fs::create_directories(path_, error);
  if (!error) return;
  remove();
  fail(ErrorCode::kRuntime, "cannot create {}: {}", path_.string(), error.message());
}

void NewDirectory::commit() {
  std::error_code error = std::make_error_code(std::errc::directory_not_empty);
  if (path_.parent_path() != final_) fs::rename(path_, final_, error);
  // Another build may have been first.
  if (error == std::errc::directory_not_empty || error == std::errc::file_exists) {
    FolderLock one_at_a_time = FolderLock::take(final_);
    check_replaceable(final_);
    error.clear();
    move_files(error);
  }
  if (error) fail(ErrorCode::kRuntime, "cannot move the engine to {}: {}", final_.string(), error.message());
  path_.clear();
}

void NewDirectory::move_files(std::error_code& error) const {
  std::vector<fs::path> names, old;
  for (const auto& entry : fs::directory_iterator(path_)) names.push_back(entry.path().filename());
  auto place = [](const fs::path& name) { return name == kConfigFile ? 0 : name == kEngineFile ? 2 : 1; };
  std::sort(names.begin(), names.end(), [&](const fs::path& a, const fs::path& b) {
    return place(a) < place(b) || (place(a) == place(b) && a < b);
  });
  for (const char* companion : kEngineCompanions)
    if (std::find(names.begin(), names.end(), companion) == names.end()) old.push_back(companion);
  for (const fs::path& name : names) {
    if (name == kEngineFile)
      for (const fs::path& companion : old)
        if (!error) fs::remove(final_ / companion, error);
    if (!error) fs::rename(path_ / name, final_ / name, error);
  }
  if (!error) fs::remove_all(path_, error);
}

void NewDirectory::remove() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
  // Innermost first; one that somebody else uses by now is not empty and stays.
  for (const fs::path& parent : new_parents_) fs::remove(parent, ignored);
}

// What cannot be read or removed is no reason not to build.
void NewDirectory::remove_left_over() const {
  std::vector<fs::path> left;
  find_left_over(final_.has_parent_path() ? final_.parent_path() : fs::path("."), final_.filename().string(), left);
  find_left_over(final_, "", left);
  for (const fs::path& directory : left) {
    std::error_code error;
    fs::remove_all(directory, error);
    if (error)
      log_warning("{} is what a killed build left; it cannot be removed: {}", directory.string(), error.message());
    else
      log_warning("removed {}, which a killed build had left", directory.string());
  }
}

}  // namespace ingot
