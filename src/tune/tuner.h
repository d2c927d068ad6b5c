// Measures the candidates of problems on this machine. Knows no graph: problems in, times out.
//
// All candidates of a problem take turns. A candidate that is clearly slower than another of its layouts is dropped
// after its first turns; the best of every layout always stays, because which layout a weight gets is a joint decision
// over all its users that is made later (build/choose.h). Weights are read from memory that no cache still holds, as in
// a real step. Each layout's winner is checked on sampled elements against the meaning of the op; a wrong one is
// reported and thrown out.
//
// A large matmul is measured on a cut-down number of output features and its time scaled up: every candidate does the
// same work per feature. measurement.h says what else spares work.
#pragma once

#include <string>
#include <vector>

#include "base/progress.h"
#include "tactics/tactic.h"
#include "tune/timing_cache.h"

namespace ingot {

// Which sources may offer tactics, from the words of --tactic-sources "+cpu.matmul_avx2,-cpu.matmul_portable".
// With any '+' only the added ones remain for the ops that they serve.
class SourceFilter {
 public:
  SourceFilter() = default;
  // Throws a usage Error for a word without sign or a name that no source has (the nearest is named).
  explicit SourceFilter(std::string_view words);
  bool removed(std::string_view source) const;
  bool added(std::string_view source) const;

 private:
  std::vector<std::string> added_, removed_;
};

struct TuneOptions {
  bool measure = true;  // false: -O0, nothing is measured and every problem gets its first tactic
  bool frozen = false;  // a candidate that the cache does not know is an Error instead of a measurement
  int effort = 3;       // 1 … 5: how many turns candidates get
  SourceFilter sources;
};

// A candidate with its time. Without measuring, the time is its place in the order of guesses.
struct TimedTactic {
  Tactic tactic;
  const TacticSource* source = nullptr;
  CompiledTactic compiled;
  Timing timing;
};

struct ProblemTimings {
  Problem problem;
  std::vector<TimedTactic> candidates;  // in the order of enumeration; never empty
  std::vector<std::string> refusals;    // "cpu.matmul_amx: needs bf16 weights"
};

struct Timings {
  std::vector<ProblemTimings> problems;  // same order as asked
  int64_t cache_hits = 0;                // problems whose candidates were all known
  int64_t measured = 0;                  // problems that were measured
};

// Throws an Error with kIncompatible when `frozen` and a time is missing, and with kRuntime when no source accepts a
// problem (all refusals are listed). New times are added to `cache`.
Timings tune(const std::vector<Problem>& problems, const Target& target, TimingCache& cache, const TuneOptions& options,
             Progress& progress);

}  // namespace ingot
