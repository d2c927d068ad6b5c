#include "tune/measurement.h"

#include <algorithm>

#include "base/log.h"

namespace ingot {

namespace {

constexpr double kScreenTolerance = 1.35, kTolerance = 1.15;
constexpr double kHopeless = 2;  // times the best of a candidate's layouts: not worth a second run
// So much slower on a like problem that another shape does not make up for it.
constexpr double kFarSlower = 1.5;
// A screening pays when its cut is so many times smaller.
constexpr double kMuchSmaller = 3;
// Further turns decide nothing for a candidate that is alone in its layouts and took as long twice.
constexpr double kAsLong = 1.02;
// What disturbs a run averages out over so many microseconds: half of the turns will do.
constexpr double kLong = 5000;
constexpr CutLimits kCheckLimits = {int64_t{1} << 20, 2e8};

std::string name_of(const TimedTactic& timed) { return timed.tactic.source + " " + timed.tactic.config; }

// A breadcrumb for what goes wrong while a candidate runs.
std::string named(const Problem& problem, const std::string& name) {
  return format("measuring {} by {}", problem.key(), name);
}

// Equal for problems whose candidates rank alike: the same op on as many rows of the same dtypes. So many rows fill the
// tiles of every candidate, and more of them change little.
constexpr int64_t kManyRows = 64;
std::string kind_of(const Problem& problem) {
  std::string kind(problem.op.name());
  for (const TensorType& input : problem.inputs) kind += format(" {}", enum_name(input.dtype));
  const Shape& shape = problem.inputs[0].shape;
  return shape.empty() ? kind : format("{} {}", kind, std::min(shape[0].constant(), kManyRows));
}

void note(std::map<std::string, double>& least, const std::string& name, double value) {
  double& known = least.try_emplace(name, value).first->second;
  known = std::min(known, value);
}

}  // namespace

std::string layouts_text(const CompiledTactic& tactic) { return join(tactic.input_layouts, ","); }

struct Measurement::Candidate {
  CompiledTactic compiled;
  std::unique_ptr<Contestant> contestant;
  std::string name, layouts;
  double best = 1e300, worst = 0;  // of its turns
  bool alive = true, settled = false;
};

Measurement::Measurement(const Target& target, int effort, std::unique_ptr<TacticBench> bench)
    : target_(target), effort_(effort), bench_(std::move(bench)) {}

void Measurement::measure(ProblemTimings& timings) {
  Slowness& known = slowness_[kind_of(timings.problem)];
  Slowness shown;
  std::vector<size_t> left = worth_measuring(timings, known);
  Cut full = cut_for(timings.problem, bench_->limits());
  bool screened = false;
  if (auto limits = bench_->screening_limits()) {
    Cut small = cut_for(timings.problem, *limits);
    screened = small.factor >= kMuchSmaller * full.factor;
    if (screened) left = run_stage(timings, left, small, {2, kScreenTolerance, kScreenTolerance}, shown);
  }
  left = run_stage(timings, left, full, {std::max(2, effort_), screened ? kTolerance : kScreenTolerance, kTolerance},
                   shown);
  Least best;
  for (size_t i : left)
    note(best, layouts_text(timings.candidates[i].compiled), timings.candidates[i].timing.microseconds);
  for (TimedTactic& timed : timings.candidates)
    if (!shown.contains(name_of(timed))) predict(timed, timings.problem, known.at(name_of(timed)), best);
  for (const auto& [name, slowness] : shown) note(known, name, slowness);
  check_winners(timings);
}

void Measurement::predict(TimedTactic& timed, const Problem& problem, double slowness, const Least& best) {
  timed.timing = {rounded_microseconds(slowness * best.at(layouts_text(timed.compiled))), true};
  log_debug("{}: {} is not measured: {:.1f} times slower than others on a like problem", problem.key(), name_of(timed),
            slowness);
}

Measurement::Cut Measurement::cut_for(const Problem& problem, CutLimits limits) {
  Cut cut{problem, 1};
  cut.factor = problem.op.cut(cut.problem.inputs, limits.max_bytes, limits.max_flops);
  cut.problem.outputs = problem.op.infer(cut.problem.inputs);
  return cut;
}

// Every layout keeps a candidate.
std::vector<size_t> Measurement::worth_measuring(const ProblemTimings& timings, const Slowness& known) const {
  auto is_far = [&](const TimedTactic& timed) {
    auto found = known.find(name_of(timed));
    return bench_->screening_limits() && found != known.end() && found->second > kFarSlower;
  };
  std::set<std::string> served;
  for (const TimedTactic& timed : timings.candidates)
    if (!is_far(timed)) served.insert(layouts_text(timed.compiled));
  std::vector<size_t> which;
  for (size_t i = 0; i < timings.candidates.size(); ++i) {
    const TimedTactic& timed = timings.candidates[i];
    if (!is_far(timed) || !served.contains(layouts_text(timed.compiled))) which.push_back(i);
  }
  return which;
}

// Writes down the times of `which`, and in `shown` how slow they are; those that are left.
std::vector<size_t> Measurement::run_stage(ProblemTimings& timings, const std::vector<size_t>& which, const Cut& cut,
                                           const Stage& stage, Slowness& shown) {
  Results results = results_on(cut, timings, which, stage);
  std::vector<size_t> left;
  for (size_t i : which) {
    TimedTactic& timed = timings.candidates[i];
    const Result& result = results.at(name_of(timed));
    timed.timing = {rounded_microseconds(result.microseconds * cut.factor), !result.alive};
    shown[name_of(timed)] = result.slowness;
    if (result.alive) left.push_back(i);
  }
  return left;
}

// Whether an earlier problem had the same cut, all of `which` took part there, and every layout keeps one of them.
bool Measurement::is_known(const Measured& measured, const ProblemTimings& timings, const std::vector<size_t>& which,
                           const Stage& stage) {
  std::map<std::string, bool> alive;
  for (size_t i : which) {
    auto result = measured.results.find(name_of(timings.candidates[i]));
    if (result == measured.results.end()) return false;
    alive[layouts_text(timings.candidates[i].compiled)] |= result->second.alive;
  }
  return measured.turns >= stage.turns && std::ranges::all_of(alive, [](const auto& each) { return each.second; });
}

Measurement::Results Measurement::results_on(const Cut& cut, const ProblemTimings& timings,
                                             const std::vector<size_t>& which, const Stage& stage) {
  Measured& measured = measured_[cut.problem.key()];
  if (is_known(measured, timings, which, stage)) return measured.results;
  std::vector<Candidate> candidates = prepare(cut, timings, which);
  Least best;
  for (int turn = 0; turn < stage.turns; ++turn) {
    std::map<std::string, int> rivals;
    for (Candidate& c : candidates) {
      if (!c.alive || c.settled || (c.best >= kLong && turn > stage.turns / 2)) continue;
      auto least = best.find(c.layouts);
      Scope scope(named(cut.problem, c.name));
      double taken = c.contestant->turn(least == best.end() ? 1e300 : least->second * kHopeless);
      c.best = std::min(c.best, taken), c.worst = std::max(c.worst, taken);
      note(best, c.layouts, c.best);
    }
    if (turn == 0) continue;  // one bad turn may be another process's doing
    for (Candidate& c : candidates) {
      c.alive = c.alive && c.best <= best[c.layouts] * (turn == 1 ? stage.first_tolerance : stage.tolerance);
      rivals[c.layouts] += c.alive;
    }
    for (Candidate& c : candidates) c.settled = rivals[c.layouts] == 1 && c.worst <= c.best * kAsLong;
  }
  measured = {stage.turns, {}};
  for (const Candidate& c : candidates) measured.results[c.name] = {c.best, c.best / best[c.layouts], c.alive};
  return measured.results;
}

std::vector<Measurement::Candidate> Measurement::prepare(const Cut& cut, const ProblemTimings& timings,
                                                         const std::vector<size_t>& which) {
  bench_->begin(cut.problem);
  std::vector<Candidate> candidates;
  candidates.reserve(which.size());  // contestants refer to their tactics
  for (size_t i : which) {
    const TimedTactic& timed = timings.candidates[i];
    Candidate& candidate = candidates.emplace_back();
    candidate.compiled = timed.source->compile(cut.problem, timed.tactic.config, target_);
    candidate.name = name_of(timed);
    candidate.layouts = layouts_text(candidate.compiled);
    candidate.contestant = bench_->enter(candidate.compiled);
  }
  return candidates;
}

// Checks the fastest candidate of each layout on real data; a wrong one is dropped and the next is checked.
void Measurement::check_winners(ProblemTimings& timings) {
  Problem small = cut_for(timings.problem, kCheckLimits).problem;
  std::map<std::string, std::vector<TimedTactic*>> by_layout;
  for (TimedTactic& timed : timings.candidates)
    if (!timed.timing.dropped) by_layout[layouts_text(timed.compiled)].push_back(&timed);
  bool any = false;
  std::unique_ptr<Inputs> inputs;
  std::unique_ptr<Expected> expected;
  for (auto& [layout, group] : by_layout) {
    std::stable_sort(group.begin(), group.end(),
                     [](auto* a, auto* b) { return a->timing.microseconds < b->timing.microseconds; });
    for (TimedTactic* timed : group) {
      std::string key = small.key() + " | " + name_of(*timed);
      CheckResult result{right_.contains(key), 0, ""};
      if (!result.ok) {
        if (!inputs) inputs = std::make_unique<Inputs>(make_inputs(small, 2));
        if (!expected) expected = std::make_unique<Expected>(small, *inputs, CheckMode::kSample, compute_dtype(small));
        CompiledTactic compiled = timed->source->compile(small, timed->tactic.config, target_);
        Scope scope(named(small, name_of(*timed)));
        result = bench_->check(small, compiled, *inputs, *expected);
      }
      any = any || result.ok;
      if (result.ok) right_.insert(key);
      if (result.ok) break;
      log_warning("{} {} computes {} wrongly ({}); it is not used", timed->tactic.source, timed->tactic.config,
                  timings.problem.key(), result.where);
      timed->timing.dropped = true;
    }
  }
  if (!any) fail(ErrorCode::kRuntime, "every tactic for {} computed wrong results", timings.problem.key());
}

}  // namespace ingot
