#include "tune/timing_cache.h"

#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/folder_lock.h"
#include "base/log.h"

namespace ingot {

namespace {

constexpr std::string_view kFirstLine = "# ingot timing cache 1";

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) text.remove_suffix(1);
  return text;
}

std::string candidate_text(const Tactic& tactic, std::string_view version) {
  std::string text = tactic.source + "@" + std::string(version);
  return tactic.config.empty() ? text : text + " " + tactic.config;
}

std::string print_timing(Timing timing) {
  return (timing.dropped ? ">" : "") + print_float(timing.microseconds) + "us";
}

std::optional<Timing> parse_timing(std::string_view text) {
  Timing timing;
  if (text.starts_with('>')) timing.dropped = true, text.remove_prefix(1);
  if (!text.ends_with("us")) return std::nullopt;
  text.remove_suffix(2);
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), timing.microseconds);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (!std::isfinite(timing.microseconds) || timing.microseconds <= 0 || timing.microseconds > 1e12)
    return std::nullopt;
  return timing;
}

// Times are kept in a new file, an empty one, or a timing cache of this version, known by its first line or, where
// people have cut or sorted it, by an entry near its beginning. Anything else was named by mistake and would be lost.
void check_is_timing_cache(const Path& path, std::string_view text) {
  constexpr size_t kBeginning = 64 << 10;
  const std::string_view first = trimmed(text.substr(0, text.find('\n')));
  if (text.empty() || first == kFirstLine) return;
  if (first.starts_with(kFirstLine.substr(0, kFirstLine.size() - 1)))
    fail(ErrorCode::kIncompatible, "{} begins with \"{}\", needed \"{}\"; name another file", path.string(),
         first.substr(0, 120), kFirstLine);
  TimingCache beginning;
  beginning.merge_text(text.substr(0, kBeginning));
  if (beginning.size() == 0)
    fail(ErrorCode::kUsage,
         "{} is no timing cache: its first line is not \"{}\", and it holds no time; name another file", path.string(),
         kFirstLine);
}

bool is_plain(std::string_view text) {
  for (char c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  return !text.empty();
}

}  // namespace

double rounded_microseconds(double microseconds) {
  double value = 0;
  std::string text = format("{:.3g}", microseconds);
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::vector<std::string> TimingCache::merge_text(std::string_view text) {
  std::vector<std::string> damage;
  for (size_t number = 1; !text.empty(); ++number) {
    size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.starts_with('#')) continue;
    std::vector<std::string_view> parts;
    for (std::string_view rest = line;;) {
      size_t bar = rest.find('|');
      parts.push_back(trimmed(rest.substr(0, bar)));
      if (bar == std::string_view::npos) break;
      rest.remove_prefix(bar + 1);
    }
    if (parts.size() != 4) {
      damage.push_back(
          format("line {}: found {} parts, needed device | problem | candidate | time", number, parts.size()));
      continue;
    }
    std::optional<Timing> timing = parse_timing(parts[3]);
    if (!timing || parts[2].find('@') == std::string_view::npos || !is_plain(line) || parts[0].empty() ||
        parts[1].empty()) {
      damage.push_back(format("line {}: \"{}\" is not a candidate with its time in us", number,
                              is_plain(line) ? line.substr(0, 120) : std::string_view("(unprintable)")));
      continue;
    }
    entries_[Key(parts[0], parts[1], parts[2])] = *timing;
  }
  return damage;
}

TimingCache TimingCache::load(const Path& path) {
  TimingCache cache;
  if (!std::filesystem::exists(path)) return cache;
  MappedFile file(path);
  check_is_timing_cache(path, file.text());
  std::vector<std::string> damage = cache.merge_text(file.text());
  for (size_t i = 0; i < damage.size() && i < 10; ++i)
    log_warning("timing cache {}: {}; the line is skipped", path.string(), damage[i]);
  if (damage.size() > 10)
    log_warning("timing cache {}: {} more damaged lines are skipped", path.string(), damage.size() - 10);
  return cache;
}

std::string TimingCache::text() const {
  std::string text = std::string(kFirstLine) + "\n";
  for (const auto& [key, timing] : entries_) {
    const auto& [device, problem, candidate] = key;
    text += device + " | " + problem + " | " + candidate + " | " + print_timing(timing) + "\n";
  }
  return text;
}

void TimingCache::save(const Path& path) const {
  if (std::filesystem::exists(path)) check_is_timing_cache(path, MappedFile(path).text());
  write_text_file(path, text());
}

void TimingCache::save_added(const TimingCache& before, const Path& path) const {
  FolderLock one_at_a_time = FolderLock::take(path.parent_path());
  TimingCache all = before;
  std::string written;
  if (std::filesystem::exists(path)) {
    written = read_text_file(path);
    check_is_timing_cache(path, written);
    all.entries_.clear();
    all.merge_text(written);  // damage was told when it was read first
  }
  for (const auto& [key, timing] : entries_) {
    auto found = before.entries_.find(key);
    if (found == before.entries_.end() || found->second != timing) all.entries_[key] = timing;
  }
  std::string text = all.text();
  if (text != written) write_text_file(path, text);
}

std::optional<Timing> TimingCache::find(std::string_view device, std::string_view problem, const Tactic& tactic,
                                        std::string_view version) const {
  auto found = entries_.find(Key(device, problem, candidate_text(tactic, version)));
  if (found == entries_.end()) return std::nullopt;
  return found->second;
}

std::vector<std::string> TimingCache::configs(std::string_view device, std::string_view problem,
                                              std::string_view source, std::string_view version) const {
  const std::string prefix = candidate_text({std::string(source), ""}, version) + " ";
  std::vector<std::string> found;
  for (auto at = entries_.lower_bound(Key(device, problem, prefix)); at != entries_.end(); ++at) {
    const auto& [at_device, at_problem, candidate] = at->first;
    if (at_device != device || at_problem != problem || !candidate.starts_with(prefix)) break;
    found.push_back(candidate.substr(prefix.size()));
  }
  return found;
}

void TimingCache::add(std::string_view device, std::string_view problem, const Tactic& tactic, std::string_view version,
                      Timing timing) {
  timing.microseconds = rounded_microseconds(timing.microseconds);
  entries_[Key(device, problem, candidate_text(tactic, version))] = timing;
}

std::vector<std::string> TimingCache::devices() const {
  std::vector<std::string> devices;
  for (const auto& [key, timing] : entries_)
    if (devices.empty() || devices.back() != std::get<0>(key)) devices.push_back(std::get<0>(key));
  return devices;
}

}  // namespace ingot
