// Takes the times of the candidates of problems on one device, and checks the fastest.
//
// Candidates of a problem take turns: two on a small cut, then, those that are left, several on a larger one. One that
// is clearly slower than another of its layouts is dropped. What one problem shows spares work on later ones:
// - Problems that are cut to the same sizes (projections of one input, the head) are measured once.
// - A candidate that was far slower than others of its layouts on another problem with as many rows is not measured:
//   it is written down as dropped, with the time that follows from there. Only where screening pays; on a GPU the
//   best tile depends too much on the shape.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "tune/tactic_bench.h"
#include "tune/tuner.h"

namespace ingot {

// Candidates compete with those of equal layouts.
std::string layouts_text(const CompiledTactic& tactic);

// One for all problems of a build.
class Measurement {
 public:
  // `effort`: how many turns candidates get.
  Measurement(const Target& target, int effort, std::unique_ptr<TacticBench> bench);

  // Fills in the times of every candidate of `timings`. Throws an Error when all of them compute wrong results.
  void measure(ProblemTimings& timings);

 private:
  struct Candidate;
  // A problem that is measured in place of another, and the factor by which times grow.
  struct Cut {
    Problem problem;
    double factor = 1;
  };
  struct Stage {
    int turns;
    double first_tolerance, tolerance;  // after the second turn, and after later ones
  };
  struct Result {
    double microseconds = 0;
    double slowness = 1;  // as a multiple of the best of its layouts
    bool alive = true;
  };
  using Results = std::map<std::string, Result>;  // by source and configuration
  using Slowness = std::map<std::string, double>;
  using Least = std::map<std::string, double>;  // times, by layouts
  struct Measured {
    int turns = 0;
    Results results;
  };

  static Cut cut_for(const Problem& problem, CutLimits limits);
  std::vector<size_t> worth_measuring(const ProblemTimings& timings, const Slowness& known) const;
  std::vector<size_t> run_stage(ProblemTimings& timings, const std::vector<size_t>& which, const Cut& cut,
                                const Stage& stage, Slowness& shown);
  static void predict(TimedTactic& timed, const Problem& problem, double slowness, const Least& best);
  Results results_on(const Cut& cut, const ProblemTimings& timings, const std::vector<size_t>& which,
                     const Stage& stage);
  static bool is_known(const Measured& measured, const ProblemTimings& timings, const std::vector<size_t>& which,
                       const Stage& stage);
  std::vector<Candidate> prepare(const Cut& cut, const ProblemTimings& timings, const std::vector<size_t>& which);
  void check_winners(ProblemTimings& timings);

  Target target_;
  int effort_;
  std::unique_ptr<TacticBench> bench_;
  std::map<std::string, Measured> measured_;  // by the key of a cut
  std::map<std::string, Slowness> slowness_;  // by kind of problem; the least that was seen
  std::set<std::string> right_;               // cuts and candidates whose results were right
};

}  // namespace ingot
