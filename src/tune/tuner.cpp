#include "tune/tuner.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <numeric>
#include <set>

#include "base/log.h"
#include "tune/tactic_bench.h"

namespace ingot {

namespace {

using Clock = std::chrono::steady_clock;

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// The problem to be measured in place of `problem`, and the factor by which times grow.
Problem cut_problem(const Problem& problem, CutLimits limits, double& factor) {
  Problem cut = problem;
  factor = problem.op.cut(cut.inputs, limits.max_bytes, limits.max_flops);
  cut.outputs = cut.op.infer(cut.inputs);
  return cut;
}

struct Candidate {
  size_t index;  // into ProblemTimings::candidates
  CompiledTactic compiled;
  std::unique_ptr<Contestant> contestant;
  std::string layouts;  // candidates compete within equal layouts
  double best = 1e300;
  bool alive = true;
};

std::string layouts_text(const CompiledTactic& tactic) { return join(tactic.input_layouts, ","); }

class Measurement {
 public:
  Measurement(const Target& target, const TuneOptions& options)
      : options_(options),
        target_(target),
        bench_(target.kind == "cuda" ? make_cuda_bench() : make_cpu_bench(target)) {}

  // Fills in the times of every candidate of `timings`: two turns on a small cut where that is quicker, then several
  // for those left.
  void measure(ProblemTimings& timings) {
    std::vector<size_t> everyone(timings.candidates.size());
    std::iota(everyone.begin(), everyone.end(), size_t{0});
    if (auto limits = bench_->screening_limits()) take_turns(timings, everyone, *limits, 2, kScreenTolerance);
    std::vector<size_t> rest;
    for (size_t i = 0; i < timings.candidates.size(); ++i)
      if (!timings.candidates[i].timing.dropped) rest.push_back(i);
    take_turns(timings, rest, bench_->limits(), std::max(2, options_.effort), kTolerance);
    check_winners(timings);
  }

 private:
  static constexpr double kScreenTolerance = 1.35, kTolerance = 1.15;
  static constexpr double kHopeless = 2;  // times the best of a candidate's layouts: not worth a second run
  static constexpr CutLimits kCheckLimits = {int64_t{1} << 20, 2e8};

  // Measures the candidates `which` on a cut and writes their times down.
  void take_turns(ProblemTimings& timings, const std::vector<size_t>& which, CutLimits limits, int turns,
                  double tolerance) {
    double factor = 1;
    Problem cut = cut_problem(timings.problem, limits, factor);
    std::vector<Candidate> candidates = prepare(timings, which, cut);
    for (int turn = 0; turn < turns; ++turn) {
      std::map<std::string, double> best;
      for (Candidate& candidate : candidates) {
        if (!candidate.alive) continue;
        double& least = best.try_emplace(candidate.layouts, 1e300).first->second;
        candidate.best = std::min(candidate.best, candidate.contestant->turn(least * kHopeless));
        least = std::min(least, candidate.best);
      }
      if (turn > 0) drop_stragglers(candidates, tolerance);  // one bad turn may be another process's doing
    }
    for (Candidate& candidate : candidates)
      timings.candidates[candidate.index].timing = {rounded_microseconds(candidate.best * factor), !candidate.alive};
  }

  std::vector<Candidate> prepare(ProblemTimings& timings, const std::vector<size_t>& which, const Problem& cut) {
    bench_->begin(cut);
    std::vector<Candidate> candidates;
    candidates.reserve(which.size());  // contestants refer to their tactics
    for (size_t c : which) {
      TimedTactic& timed = timings.candidates[c];
      Candidate& candidate =
          candidates.emplace_back(Candidate{c, timed.source->compile(cut, timed.tactic.config, target_), {}, {}});
      candidate.layouts = layouts_text(candidate.compiled);
      candidate.contestant = bench_->enter(candidate.compiled);
    }
    return candidates;
  }

  static void drop_stragglers(std::vector<Candidate>& candidates, double tolerance) {
    std::map<std::string, double> best;
    for (const Candidate& c : candidates) {
      auto [at, fresh] = best.try_emplace(c.layouts, c.best);
      if (!fresh) at->second = std::min(at->second, c.best);
    }
    for (Candidate& c : candidates)
      if (c.best > best[c.layouts] * tolerance) c.alive = false;
  }

  // Checks the fastest candidate of each layout on real data; a wrong one is dropped and the next is checked.
  void check_winners(ProblemTimings& timings) {
    double factor = 1;
    Problem small = cut_problem(timings.problem, kCheckLimits, factor);
    Inputs inputs = make_inputs(small, 2);
    Expected expected(small, inputs, CheckMode::kSample, compute_dtype(small));
    std::map<std::string, std::vector<TimedTactic*>> by_layout;
    for (TimedTactic& timed : timings.candidates)
      if (!timed.timing.dropped) by_layout[layouts_text(timed.compiled)].push_back(&timed);
    bool any = false;
    for (auto& [layout, group] : by_layout) {
      std::stable_sort(group.begin(), group.end(),
                       [](auto* a, auto* b) { return a->timing.microseconds < b->timing.microseconds; });
      for (TimedTactic* timed : group) {
        CompiledTactic compiled = timed->source->compile(small, timed->tactic.config, target_);
        CheckResult result = bench_->check(small, compiled, inputs, expected);
        any = any || result.ok;
        if (result.ok) break;
        log_warning("{} {} computes {} wrongly ({}); it is not used", timed->tactic.source, timed->tactic.config,
                    timings.problem.key(), result.where);
        timed->timing.dropped = true;
      }
    }
    if (!any) fail(ErrorCode::kRuntime, "every tactic for {} computed wrong results", timings.problem.key());
  }

  TuneOptions options_;
  Target target_;
  std::unique_ptr<TacticBench> bench_;
};

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
    if (!measurement_) measurement_ = std::make_unique<Measurement>(target_, options_);
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
