// What was measured, remembered as readable text: one line per device, problem and candidate.
//
//   device | problem | source@version config | time
//   Xeon/avx512/2 threads | matmul f32[1, 2048] bf16[2048, 2048] | cpu.matmul_avx512@5f2c91 layout=panel_32 | 281us
//
// A time of ">281us" means that the candidate was dropped after that time, being clearly slower than another of its
// layout. Entries are valid one by one: an entry of another device or version is kept and never used.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/mapped_file.h"
#include "tactics/tactic.h"

namespace ingot {

struct Timing {
  double microseconds = 0;  // three significant digits, so that a cache that was read equals the one that was filled
  bool dropped = false;     // a lower bound
  bool operator==(const Timing&) const = default;
};

// `microseconds` rounded to what a line holds.
double rounded_microseconds(double microseconds);

class TimingCache {
 public:
  // Reads the lines of `text`, adding to what is there (an entry read later wins). A damaged line is skipped; its
  // number and what is wrong with it are returned.
  std::vector<std::string> merge_text(std::string_view text);
  // A missing file is an empty cache; damage is logged as warnings and skipped. Throws a usage Error for a file that is
  // no timing cache, and one with kIncompatible for a cache of another version.
  static TimingCache load(const Path& path);
  // Sorted lines; equal caches give equal text.
  std::string text() const;
  // Atomic and synced. Replaces only what load() takes.
  void save(const Path& path) const;
  // Adds to the file what this cache has beyond `before`, which was read from it: the file keeps what others have added
  // meanwhile. One at a time does, also of several processes.
  void save_added(const TimingCache& before, const Path& path) const;

  std::optional<Timing> find(std::string_view device, std::string_view problem, const Tactic& tactic,
                             std::string_view version) const;
  void add(std::string_view device, std::string_view problem, const Tactic& tactic, std::string_view version,
           Timing timing);
  // The configurations of a source that have an entry, sorted.
  std::vector<std::string> configs(std::string_view device, std::string_view problem, std::string_view source,
                                   std::string_view version) const;
  std::vector<std::string> devices() const;  // that entries are of, sorted
  size_t size() const { return entries_.size(); }
  // f(device, problem, "source@version config") for every entry, sorted.
  template <class F>
  void for_each(F f) const {
    for (const auto& [key, timing] : entries_) std::apply(f, key);
  }
  bool operator==(const TimingCache&) const = default;

 private:
  using Key = std::tuple<std::string, std::string, std::string>;  // device, problem, "source@version config"
  std::map<Key, Timing> entries_;
};

}  // namespace ingot
