// Where candidates are measured and checked: the memory and the clock of one device.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "tune/check.h"

namespace ingot {

// How large a problem is measured at most: larger ones are cut, and their times scaled up.
struct CutLimits {
  int64_t max_bytes = INT64_MAX;
  double max_flops = 1e300;
};

// A tactic that takes part in the measuring of one problem.
class Contestant {
 public:
  virtual ~Contestant() = default;
  // Runs a few times with weights that no cache holds, unless the first run takes longer than `hopeless` microseconds;
  // the best time in microseconds.
  virtual double turn(double hopeless) = 0;
};

class TacticBench {
 public:
  virtual ~TacticBench() = default;
  // What is measured of a problem, and in the screening before, if there is one.
  virtual CutLimits limits() const = 0;
  virtual std::optional<CutLimits> screening_limits() const = 0;
  // The problem of the next contestants, which is kept; earlier contestants are gone.
  virtual void begin(const Problem& problem) = 0;
  // `tactic` is compiled for that problem and outlives the contestant.
  virtual std::unique_ptr<Contestant> enter(const CompiledTactic& tactic) = 0;
  // Runs `tactic`, compiled for `problem`, on `inputs` and compares.
  virtual CheckResult check(const Problem& problem, const CompiledTactic& tactic, const Inputs& inputs,
                            const Expected& expected) = 0;
};

std::unique_ptr<TacticBench> make_cpu_bench(const Target& target);

struct CudaBenchOptions {
  // The inputs of a problem; with floats, those that a step does not read from memory are used too. Else make_inputs
  // gives the indices, and floats are any numbers: few ops take longer for others.
  std::function<std::optional<Inputs>(const Problem&)> inputs;
  // A turn repeats a launch in one graph, to at least about this long, or so often at most.
  double turn_microseconds = 250;
  int most_repeats = 24;
};
std::unique_ptr<TacticBench> make_cuda_bench(CudaBenchOptions options = {});

// An input that a real step reads from memory and not from a cache: a weight or a state.
bool is_streamed(const Problem& problem, size_t input);

}  // namespace ingot
