#include "build/new_directory.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>

#include "base/error.h"
#include "base/log.h"

namespace ingot {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEnding = ".building";
constexpr std::string_view kEngineFile = "rank0.engine";

// Engine files may replace what stands here: nothing, or an engine. Anything else is somebody's, perhaps by a mistyped
// name, and its config.json and tokenizer.json would be lost.
void check_replaceable(const fs::path& final) {
  if (!fs::exists(final)) return;
  if (!fs::is_directory(final)) fail(ErrorCode::kUsage, "{} exists and is not a directory", final.string());
  fs::directory_iterator entry(final);
  if (entry == fs::directory_iterator() || fs::exists(final / kEngineFile)) return;
  fail(ErrorCode::kUsage,
       "{} exists and is no engine directory: it holds {} and no {}; name a new directory, an empty one or an engine's",
       final.string(), entry->path().filename().string(), kEngineFile);
}

// The process in the name of a directory that is being built to become `final`.
std::optional<pid_t> builder_of(const fs::path& directory, const fs::path& final) {
  std::string name = directory.filename().string(), prefix = final.filename().string() + std::string(kEnding);
  if (!name.starts_with(prefix)) return std::nullopt;
  pid_t process = 0;
  const char *begin = name.data() + prefix.size(), *end = name.data() + name.size();
  auto [stop, error] = std::from_chars(begin, end, process);
  if (error != std::errc() || stop != end || process <= 0) return std::nullopt;
  return process;
}

// -1 when another process holds it, or nobody can lock here.
int locked(const fs::path& directory) {
  int file = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0 || flock(file, LOCK_EX | LOCK_NB) == 0) return file;
  close(file);
  return -1;
}

// Numbers come back, this process's own too. A process of another container, which shares the disk but not the numbers,
// holds the lock.
bool is_abandoned(const fs::path& directory, pid_t builder) {
  if (builder != getpid() && (kill(builder, 0) == 0 || errno != ESRCH)) return false;
  int lock = locked(directory);
  if (lock >= 0) close(lock);
  return lock >= 0;
}

}  // namespace

NewDirectory::NewDirectory(const fs::path& final) : final_(final) {
  check_replaceable(final);
  if (!final_.has_filename()) final_ = final_.parent_path();
  path_ = final_;
  path_ += std::string(kEnding) + std::to_string(getpid());
  remove_left_over();
  create();
  lock_ = locked(path_);
}

NewDirectory::~NewDirectory() {
  if (!path_.empty()) remove();
  if (lock_ >= 0) close(lock_);
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

void NewDirectory::commit(std::span<const char* const> companions) {
  std::error_code error;
  if (!fs::exists(final_)) {
    fs::rename(path_, final_, error);
  } else {
    for (const char* name : companions)
      if (!fs::exists(path_ / name)) fs::remove(final_ / name, error);
    for (const auto& entry : fs::directory_iterator(path_)) {
      fs::rename(entry.path(), final_ / entry.path().filename(), error);
      if (error) break;
    }
    if (!error) fs::remove_all(path_, error);
  }
  if (error) fail(ErrorCode::kRuntime, "cannot move the engine to {}: {}", final_.string(), error.message());
  path_.clear();
}

void NewDirectory::remove() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
  // Innermost first; one that somebody else uses by now is not empty and stays.
  for (const fs::path& parent : new_parents_) fs::remove(parent, ignored);
}

// What cannot be read or removed is no reason not to build.
void NewDirectory::remove_left_over() const {
  std::error_code error;
  fs::path parent = final_.has_parent_path() ? final_.parent_path() : fs::path(".");
  std::vector<fs::path> left;
  for (fs::directory_iterator entry(parent, error), end; !error && entry != end; entry.increment(error)) {
    auto builder = builder_of(entry->path(), final_);
    if (builder && entry->is_directory(error) && is_abandoned(entry->path(), *builder)) left.push_back(entry->path());
  }
  for (const fs::path& directory : left) {
    fs::remove_all(directory, error);
    if (error)
      log_warning("{} is what a killed build left; it cannot be removed: {}", directory.string(), error.message());
    else
      log_warning("removed {}, which a killed build had left", directory.string());
  }
}

}  // namespace ingot
