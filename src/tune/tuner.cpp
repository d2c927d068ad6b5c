#include "tune/tuner.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <numeric>

#include "base/log.h"
#include "tune/check.h"
#include "tune/runner.h"

namespace ingot {

namespace {

using Clock = std::chrono::steady_clock;

// Weights and caches are read from this much memory in turn: more than the last-level cache that a machine of the
// threads' share can keep, and small beside a model.
constexpr size_t kColdBytes = size_t{384} << 20;
// Measured problems are cut down to about these, so that one turn takes milliseconds and what does not shrink with the
// output features (packing activations) stays a small part of it. The first screening uses a small part of them.
constexpr int64_t kCutBytes = int64_t{12} << 20;
constexpr double kCutFlopsPerThread[] = {0.1e9, 0.25e9, 0.4e9, 4e9};  // by CpuLevel
constexpr double kScreenPart = 0.125;
// Larger inputs than this are weights and caches, which come from cold memory.
constexpr int64_t kLargestFilled = int64_t{8} << 20;
// A turn repeats short work: at least three times, and to at least this long in all.
constexpr double kTurnMicroseconds = 100;
constexpr double kShortMicroseconds = 2000;

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// Random float bytes that stand for weights while timing. Every dtype reads sane numbers: the pattern has small
// exponents in both halves of each 32-bit word.
class ColdMemory {
 public:
  ColdMemory() : bytes_(kColdBytes) {
    constexpr size_t kPattern = size_t{4} << 20;
    uint64_t state = 0x9e3779b97f4a7c15;
    auto* words = reinterpret_cast<uint32_t*>(bytes_.data());
    for (size_t i = 0; i < kPattern / 4; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      words[i] = (static_cast<uint32_t>(state >> 32) & 0x81ff81ff) | 0x3c003c00;
    }
    for (size_t at = kPattern; at < kColdBytes; at += kPattern)
      std::memcpy(bytes_.data() + at, bytes_.data(), kPattern);
  }

  // The next `size` bytes, never the ones used lately; nullptr when there is not that much.
  std::byte* next(size_t size) {
    if (size > kColdBytes) return nullptr;
    if (at_ + size > kColdBytes) at_ = 0;
    std::byte* data = bytes_.data() + at_;
    at_ += (size + 63) / 64 * 64;
    return data;
  }

 private:
  AlignedBytes bytes_;
  size_t at_ = 0;
};

// The problem to be measured in place of `problem`, and the factor by which times grow.
Problem cut_problem(const Problem& problem, int64_t max_bytes, double max_flops, double& factor) {
  Problem cut = problem;
  factor = problem.op.cut(cut.inputs, max_bytes, max_flops);
  cut.outputs = cut.op.infer(cut.inputs);
  return cut;
}

// An input that a real step reads from memory and not from a cache: a weight or a state.
bool is_streamed(const TensorType& type) { return is_float(type.dtype) && type.bytes() >= (int64_t{128} << 10); }

struct Candidate {
  size_t index;  // into ProblemTimings::candidates
  std::unique_ptr<TacticRunner> runner;
  std::string layouts;  // candidates compete within equal layouts
  double best = 1e300;
  bool alive = true;
};

std::string layouts_text(const CompiledTactic& tactic) { return join(tactic.input_layouts, ","); }

class Measurement {
 public:
  Measurement(const Target& target, const TuneOptions& options)
      : options_(options), threads_(target.threads), target_(target) {}

  // Fills in the times of every candidate of `timings`: two turns on a small cut, then several for those left.
  void measure(ProblemTimings& timings) {
    std::vector<size_t> everyone(timings.candidates.size());
    std::iota(everyone.begin(), everyone.end(), size_t{0});
    take_turns(timings, everyone, kScreenPart, 2, kScreenTolerance);
    std::vector<size_t> rest;
    for (size_t i = 0; i < timings.candidates.size(); ++i)
      if (!timings.candidates[i].timing.dropped) rest.push_back(i);
    take_turns(timings, rest, 1, std::max(2, options_.effort), kTolerance);
    check_winners(timings);
  }

 private:
  static constexpr double kScreenTolerance = 1.35, kTolerance = 1.15;
  static constexpr double kHopeless = 2;  // times the best of a candidate's layouts: not worth a second run

  // Measures the candidates `which` on `part` of a full cut and writes their times down.
  void take_turns(ProblemTimings& timings, const std::vector<size_t>& which, double part, int turns, double tolerance) {
    double factor = 1, flops = kCutFlopsPerThread[static_cast<size_t>(target_.cpu_level)] * target_.threads;
    Problem cut = cut_problem(timings.problem, static_cast<int64_t>(kCutBytes * part), flops * part, factor);
    Inputs inputs = make_inputs(cut, 1, kLargestFilled);
    std::vector<Candidate> candidates = prepare(timings, which, cut, inputs);
    for (int turn = 0; turn < turns; ++turn) {
      std::map<std::string, double> best;
      for (Candidate& candidate : candidates) {
        if (!candidate.alive) continue;
        double& least = best.try_emplace(candidate.layouts, 1e300).first->second;
        take_turn(candidate, cut, timings.candidates[candidate.index].compiled, least * kHopeless);
        least = std::min(least, candidate.best);
      }
      if (turn > 0) drop_stragglers(candidates, tolerance);  // one bad turn may be another process's doing
    }
    for (Candidate& candidate : candidates)
      timings.candidates[candidate.index].timing = {rounded_microseconds(candidate.best * factor), !candidate.alive};
  }

  std::vector<Candidate> prepare(ProblemTimings& timings, const std::vector<size_t>& which, const Problem& cut,
                                 Inputs& inputs) {
    resize_outputs(cut);
    std::vector<Candidate> candidates;
    std::vector<CompiledTactic> compiled;
    for (size_t c : which) {
      TimedTactic& timed = timings.candidates[c];
      compiled.push_back(timed.source->compile(cut, timed.tactic.config, target_));
      size_t scratch = static_cast<size_t>(compiled.back().scratch_bytes);
      if (scratch > scratch_.size()) scratch_ = AlignedBytes(scratch);
    }
    for (size_t i = 0; i < which.size(); ++i) {
      Candidate candidate{which[i], std::make_unique<TacticRunner>(cut, compiled[i], scratch_.data()),
                          layouts_text(compiled[i])};
      for (size_t input = 0; input < cut.inputs.size(); ++input)
        candidate.runner->bind(static_cast<int>(input), inputs.data(input));
      bind_outputs(*candidate.runner, cut, [&](size_t input) { return static_cast<void*>(inputs.data(input)); });
      candidates.push_back(std::move(candidate));
    }
    return candidates;
  }

  // Output buffers grow and stay: fresh memory would be paid for page by page in the first turn.
  void resize_outputs(const Problem& problem) {
    outputs_.resize(std::max(outputs_.size(), problem.outputs.size()));
    for (size_t i = 0; i < problem.outputs.size(); ++i) {
      size_t bytes = static_cast<size_t>(problem.outputs[i].bytes()) + 64;
      if (outputs_[i].size() < bytes) outputs_[i] = AlignedBytes(bytes);
    }
  }

  template <class F>
  void bind_outputs(TacticRunner& runner, const Problem& problem, F&& input_data) {
    for (size_t o = 0; o < problem.outputs.size(); ++o) {
      int alias = problem.op.aliased_input(static_cast<int>(o));
      runner.bind(static_cast<int>(problem.inputs.size() + o),
                  alias >= 0 ? input_data(static_cast<size_t>(alias)) : static_cast<void*>(outputs_[o].data()));
    }
  }

  // Repeats short work, unless it takes longer than `hopeless` microseconds.
  void take_turn(Candidate& candidate, const Problem& cut, const CompiledTactic& full, double hopeless) {
    double total = 0;
    int repeats = 0;
    do {
      bind_cold(*candidate.runner, cut, full);
      Clock::time_point start = Clock::now();
      candidate.runner->run(threads_);
      double taken = microseconds_since(start);
      candidate.best = std::min(candidate.best, taken);
      total += taken;
      ++repeats;
    } while (candidate.best < kShortMicroseconds && candidate.best < hopeless &&
             (repeats < 3 || total < kTurnMicroseconds) && repeats < 64);
  }

  // Points streamed inputs at memory that was not read lately. A state's output follows its input.
  void bind_cold(TacticRunner& runner, const Problem& cut, const CompiledTactic& full) {
    for (size_t i = 0; i < cut.inputs.size(); ++i) {
      if (i == 0 && !is_state(cut, 0)) continue;  // activations come first and are warm in a step
      if (!is_streamed(cut.inputs[i])) continue;
      std::byte* data = cold_.next(static_cast<size_t>(stored_bytes(cut, full, i)));
      if (!data) continue;
      runner.bind(static_cast<int>(i), data);
      for (size_t o = 0; o < cut.outputs.size(); ++o)
        if (cut.op.aliased_input(static_cast<int>(o)) == static_cast<int>(i))
          runner.bind(static_cast<int>(cut.inputs.size() + o), data);
    }
  }

  static bool is_state(const Problem& problem, int input) {
    for (size_t o = 0; o < problem.outputs.size(); ++o)
      if (problem.op.aliased_input(static_cast<int>(o)) == input) return true;
    return false;
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
    Problem small = cut_problem(timings.problem, int64_t{1} << 20, 2e8, factor);
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
        CheckResult result = check(*timed, small, inputs, expected);
        any = any || result.ok;
        if (result.ok) break;
        log_warning("{} {} computes {} wrongly ({}); it is not used", timed->tactic.source, timed->tactic.config,
                    timings.problem.key(), result.where);
        timed->timing.dropped = true;
      }
    }
    if (!any) fail(ErrorCode::kRuntime, "every tactic for {} computed wrong results", timings.problem.key());
  }

  CheckResult check(const TimedTactic& timed, const Problem& small, const Inputs& original, const Expected& expected) {
    Inputs inputs = original;  // states are written in place
    CompiledTactic compiled = timed.source->compile(small, timed.tactic.config, target_);
    TacticRunner runner(small, compiled);
    std::vector<AlignedBytes> packed_inputs;
    std::vector<void*> data(small.inputs.size());
    for (size_t i = 0; i < small.inputs.size(); ++i) {
      data[i] = inputs.data(i);
      if (!compiled.input_layouts[i].empty()) {
        packed_inputs.push_back(packed(small.inputs[i], inputs.data(i), compiled.input_layouts[i]));
        data[i] = packed_inputs.back().data();
      }
      runner.bind(static_cast<int>(i), data[i]);
    }
    resize_outputs(small);
    bind_outputs(runner, small, [&](size_t i) { return data[i]; });
    runner.run(threads_);
    std::vector<const void*> outputs;
    for (size_t o = 0; o < small.outputs.size(); ++o) {
      int alias = small.op.aliased_input(static_cast<int>(o));
      outputs.push_back(alias >= 0 ? data[static_cast<size_t>(alias)] : outputs_[o].data());
    }
    return expected.compare(outputs);
  }

  TuneOptions options_;
  ThreadPool threads_;
  Target target_;
  ColdMemory cold_;
  std::vector<AlignedBytes> outputs_;
  AlignedBytes scratch_{64};
};

ProblemTimings enumerate_candidates(const Problem& problem, const Target& target, const SourceFilter& filter) {
  ProblemTimings result;
  result.problem = problem;
  std::vector<TimedTactic> preferred;
  for (const TacticSource* source : tactic_list()) {
    if (filter.removed(source->name())) {
      result.refusals.push_back(format("{}: removed by --tactic-sources", source->name()));
      continue;
    }
    auto offered = source->enumerate(problem, target);
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

Timings tune(const std::vector<Problem>& problems, const Target& target, TimingCache& cache, const TuneOptions& options,
             Progress& progress) {
  Timings timings;
  std::unique_ptr<Measurement> measurement;  // made when something must be measured
  progress.begin("tune", problems.size());
  for (const Problem& problem : problems) {
    ProblemTimings one = enumerate_candidates(problem, target, options.sources);
    std::string key = problem.key();
    progress.note(key);
    for (const std::string& refusal : one.refusals) log_debug("{}: {}", key, refusal);
    if (!options.measure) {
      guess(one);
    } else if (one.candidates.size() == 1) {
      guess(one);  // nothing to choose
    } else if (read_cache(one, cache, target)) {
      ++timings.cache_hits;
    } else if (options.frozen) {
      fail(ErrorCode::kIncompatible,
           "--frozen: the timing cache does not know every candidate of {} on {}; build once without --frozen", key,
           target.device);
    } else {
      if (!measurement) measurement = std::make_unique<Measurement>(target, options);
      Clock::time_point start = Clock::now();
      measurement->measure(one);
      log_debug("{}: {} candidates in {:.1f} ms", key, one.candidates.size(), microseconds_since(start) / 1e3);
      for (const TimedTactic& timed : one.candidates)
        cache.add(target.device, key, timed.tactic, timed.source->version(), timed.timing);
      ++timings.measured;
    }
    timings.problems.push_back(std::move(one));
    progress.advance(1);
  }
  progress.finish();
  return timings;
}

}  // namespace ingot
