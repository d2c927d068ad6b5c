#include "tune/tuner.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "base/log.h"
#include "tune/measurement.h"

namespace ingot {

namespace {

using Clock = std::chrono::steady_clock;

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// What `source` offers; with a cache, what that remembers of it first.
std::variant<std::vector<std::string>, Unsupported> offers(const TacticSource& source, const Problem& problem,
                                                           const Target& target, const TimingCache* cache) {
  if (cache) {
    auto known = cache->configs(target.device, problem.key(), source.name(), source.version());
    if (auto recalled = source.recall(problem, target, known); !recalled.empty()) return recalled;
  }
  return source.enumerate(problem, target);
}

ProblemTimings enumerate_candidates(const Problem& problem, const Target& target, const SourceFilter& filter,
                                    const TimingCache* cache) {
  ProblemTimings result;
  result.problem = problem;
  std::vector<TimedTactic> preferred;
  std::set<std::string_view> accepting;
  for (const TacticSource* source : tactic_list()) {
    if (filter.removed(source->name())) {
      result.refusals.push_back(format("{}: removed by --tactic-sources", source->name()));
      continue;
    }
    auto offered = offers(*source, problem, target, cache);
    if (auto* refused = std::get_if<Unsupported>(&offered)) {
      if (!refused->reason.empty()) result.refusals.push_back(format("{}: {}", source->name(), refused->reason));
      continue;
    }
    // Better ones stand before it in the list.
    if (auto better = source->outclassed_by(target); accepting.contains(better) && !filter.added(source->name())) {
      result.refusals.push_back(format("{}: {} is faster in every case", source->name(), better));
      continue;
    }
    accepting.insert(source->name());
    for (const std::string& config : std::get<std::vector<std::string>>(offered)) {
      TimedTactic timed{{std::string(source->name()), config}, source, source->compile(problem, config, target), {}};
      (filter.added(source->name()) ? preferred : result.candidates).push_back(std::move(timed));
    }
  }
  if (!preferred.empty()) result.candidates = std::move(preferred);
  if (result.candidates.empty())
    fail(ErrorCode::kRuntime, "no tactic solves {} for {}: {}", problem.key(), target.text(),
         join(result.refusals, "; "));
  return result;
}

// Whether the cache knows every candidate, and of every layout one that was not dropped: those that were may have been
// dropped in favour of a source that is left out now. Fills in the times that it knows.
bool read_cache(ProblemTimings& timings, const TimingCache& cache, const Target& target) {
  bool complete = true;
  std::map<std::string, bool> has_best;
  std::string key = timings.problem.key();
  for (TimedTactic& timed : timings.candidates) {
    auto known = cache.find(target.device, key, timed.tactic, timed.source->version());
    if (known) timed.timing = *known;
    complete = complete && known.has_value();
    has_best[layouts_text(timed.compiled)] |= known && !known->dropped;
  }
  for (const auto& [layouts, found] : has_best) complete = complete && found;
  return complete;
}

void guess(ProblemTimings& timings) {
  for (size_t i = 0; i < timings.candidates.size(); ++i)
    timings.candidates[i].timing = {static_cast<double>(i + 1), false};
}

}  // namespace

SourceFilter::SourceFilter(std::string_view words) {
  std::vector<std::string> names;
  for (const TacticSource* source : tactic_list()) names.emplace_back(source->name());
  while (!words.empty()) {
    size_t comma = std::min(words.find(','), words.size());
    std::string_view word = words.substr(0, comma);
    words.remove_prefix(std::min(comma + 1, words.size()));
    if (word.empty()) continue;
    if (word[0] != '+' && word[0] != '-')
      fail(ErrorCode::kUsage, "tactic sources: \"{}\" begins with neither + nor -", word);
    std::string name(word.substr(1));
    if (std::find(names.begin(), names.end(), name) == names.end())
      fail(ErrorCode::kUsage, "tactic sources: there is no \"{}\"; the nearest is \"{}\"", name, nearest(name, names));
    (word[0] == '+' ? added_ : removed_).push_back(name);
  }
}

bool SourceFilter::removed(std::string_view source) const {
  return std::find(removed_.begin(), removed_.end(), source) != removed_.end();
}
bool SourceFilter::added(std::string_view source) const {
  return std::find(added_.begin(), added_.end(), source) != added_.end();
}

namespace {

// What has to be done for a problem.
enum class Work { kNone, kMeasure };

class Tuning {
 public:
  Tuning(const Target& target, TimingCache& cache, const TuneOptions& options, Progress& progress)
      : target_(target), cache_(cache), options_(options), progress_(progress) {}

  Timings run(const std::vector<Problem>& problems) {
    std::vector<Work> work;
    for (const Problem& problem : problems) {
      ProblemTimings one =
          enumerate_candidates(problem, target_, options_.sources, options_.measure ? &cache_ : nullptr);
      for (const std::string& refusal : one.refusals) log_debug("{}: {}", problem.key(), refusal);
      work.push_back(look_up(one));
      timings_.problems.push_back(std::move(one));
    }
    compile_device_code(work);
    progress_.begin("tune", problems.size());
    for (size_t i = 0; i < problems.size(); ++i) {
      if (work[i] == Work::kMeasure) measure(timings_.problems[i]);
      progress_.advance(1);
    }
    progress_.finish();
    return std::move(timings_);
  }

 private:
  Work look_up(ProblemTimings& one) {
    if (!options_.measure || one.candidates.size() == 1) {  // nothing to choose
      guess(one);
      return Work::kNone;
    }
    if (read_cache(one, cache_, target_)) {
      ++timings_.cache_hits;
      return Work::kNone;
    }
    if (options_.frozen || target_.device.empty())
      fail(ErrorCode::kIncompatible, "{}the timing cache does not know every candidate of {} on {}; build once {}",
           options_.frozen ? "--frozen: " : "", one.problem.key(),
           target_.device.empty() ? "any device with " + target_.text() : target_.device,
           options_.frozen ? "without --frozen" : "on such a machine, or with -O0");
    return Work::kMeasure;
  }

  // Of every candidate that will be measured, side by side: compiling takes longer than measuring.
  void compile_device_code(const std::vector<Work>& work) {
    std::vector<DeviceModule> modules;
    std::set<std::string> names;
    for (size_t i = 0; i < work.size(); ++i)
      for (const TimedTactic& timed : timings_.problems[i].candidates)
        if (work[i] == Work::kMeasure)
          for (const DeviceModule& module : timed.compiled.modules)
            if (names.insert(module.name()).second) modules.push_back(module);
    if (modules.empty()) return;
    progress_.begin("compile", 1);
    Clock::time_point start = Clock::now();
    ThreadPool threads(usable_cpus());
    compile_all(modules, threads);
    log_info("{} modules compiled in {:.2f} s", modules.size(), microseconds_since(start) / 1e6);
    progress_.finish();
  }

  void measure(ProblemTimings& one) {
    std::string key = one.problem.key();
    progress_.note(key);
    if (!measurement_)
      measurement_ = std::make_unique<Measurement>(
          target_, options_.effort, target_.kind == "cuda" ? make_cuda_bench() : make_cpu_bench(target_));
    Clock::time_point start = Clock::now();
    measurement_->measure(one);
    log_debug("{}: {} candidates in {:.1f} ms", key, one.candidates.size(), microseconds_since(start) / 1e3);
    for (const TimedTactic& timed : one.candidates)
      cache_.add(target_.device, key, timed.tactic, timed.source->version(), timed.timing);
    ++timings_.measured;
  }

  const Target& target_;
  TimingCache& cache_;
  const TuneOptions& options_;
  Progress& progress_;
  Timings timings_;
  std::unique_ptr<Measurement> measurement_;  // made when something must be measured
};

}  // namespace

Timings tune(const std::vector<Problem>& problems, const Target& target, TimingCache& cache, const TuneOptions& options,
             Progress& progress) {
  return Tuning(target, cache, options, progress).run(problems);
}

}  // namespace ingot
