#include "tune/measurement.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "base/log.h"

namespace ingot {

namespace {

constexpr double kScreenTolerance = 1.35, kTolerance = 1.15;
constexpr double kHopeless = 2;  // times the best of a candidate's layouts: not worth a second run
constexpr CutLimits kCheckLimits = {int64_t{1} << 20, 2e8};

// The problem to be measured in place of `problem`, and the factor by which times grow.
Problem cut_problem(const Problem& problem, CutLimits limits, double& factor) {
  Problem cut = problem;
  factor = problem.op.cut(cut.inputs, limits.max_bytes, limits.max_flops);
  cut.outputs = cut.op.infer(cut.inputs);
  return cut;
}

}  // namespace

std::string layouts_text(const CompiledTactic& tactic) { return join(tactic.input_layouts, ","); }

struct Measurement::Candidate {
  size_t index;  // into ProblemTimings::candidates
  CompiledTactic compiled;
  std::unique_ptr<Contestant> contestant;
  std::string layouts;
  double best = 1e300;
  bool alive = true;
};

Measurement::Measurement(const Target& target, int effort)
    : target_(target), effort_(effort), bench_(target.kind == "cuda" ? make_cuda_bench() : make_cpu_bench(target)) {}

void Measurement::measure(ProblemTimings& timings) {
  std::vector<size_t> everyone(timings.candidates.size());
  std::iota(everyone.begin(), everyone.end(), size_t{0});
  if (auto limits = bench_->screening_limits()) take_turns(timings, everyone, *limits, 2, kScreenTolerance);
  std::vector<size_t> rest;
  for (size_t i = 0; i < timings.candidates.size(); ++i)
    if (!timings.candidates[i].timing.dropped) rest.push_back(i);
  take_turns(timings, rest, bench_->limits(), std::max(2, effort_), kTolerance);
  check_winners(timings);
}

// Measures the candidates `which` on a cut and writes their times down.
void Measurement::take_turns(ProblemTimings& timings, const std::vector<size_t>& which, CutLimits limits, int turns,
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

std::vector<Measurement::Candidate> Measurement::prepare(ProblemTimings& timings, const std::vector<size_t>& which,
                                                         const Problem& cut) {
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

void Measurement::drop_stragglers(std::vector<Candidate>& candidates, double tolerance) {
  std::map<std::string, double> best;
  for (const Candidate& c : candidates) {
    auto [at, fresh] = best.try_emplace(c.layouts, c.best);
    if (!fresh) at->second = std::min(at->second, c.best);
  }
  for (Candidate& c : candidates)
    if (c.best > best[c.layouts] * tolerance) c.alive = false;
}

// Checks the fastest candidate of each layout on real data; a wrong one is dropped and the next is checked.
void Measurement::check_winners(ProblemTimings& timings) {
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

}  // namespace ingot
