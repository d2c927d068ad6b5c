// Takes the times of a problem's candidates on one device, and checks the fastest.
#pragma once

#include <memory>

#include "tune/tactic_bench.h"
#include "tune/tuner.h"

namespace ingot {

// Candidates compete with those of equal layouts.
std::string layouts_text(const CompiledTactic& tactic);

class Measurement {
 public:
  // `effort`: how many turns candidates get.
  Measurement(const Target& target, int effort);

  // Fills in the times of every candidate of `timings`: two turns on a small cut where that is quicker, then several
  // for those left.
  void measure(ProblemTimings& timings);

 private:
  struct Candidate;

  void take_turns(ProblemTimings& timings, const std::vector<size_t>& which, CutLimits limits, int turns,
                  double tolerance);
  std::vector<Candidate> prepare(ProblemTimings& timings, const std::vector<size_t>& which, const Problem& cut);
  static void drop_stragglers(std::vector<Candidate>& candidates, double tolerance);
  void check_winners(ProblemTimings& timings);

  Target target_;
  int effort_;
  std::unique_ptr<TacticBench> bench_;
};

}  // namespace ingot
