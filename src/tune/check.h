// Whether outputs are right: pseudo-random inputs for a problem, and the comparison of what a kernel made of them with
// the meaning of the op.
//
// A result y may differ from the exact one by the rounding of its dtype plus an error that follows from how it is
// computed, in f32 with unit roundoff u = 2^-24:
//   a sum of k products t_i   3 u sqrt(k) (sqrt(Σ t_i²) + |Σ t_i|): the roundings of partial sums, in any order, are
//                             independent; the first term fits sums that stay around zero, the second one-sided ones
//   operands rounded first    3 v sqrt(m Σ t_i²) more, at most m v Σ |t_i|, when m of the two operands are rounded to a
//                             compute dtype of unit roundoff v (bf16: 2^-8)
//   activation functions      1.13 (their steepest slope) times the error of the argument, and 8 u at their scale: |x|
//                             for silu, gelu and their kin, 1 for tanh and sigmoid
//   normalizations            u (8 + sqrt(h)), relative
//   sampled tokens            nothing, unless a random number, a top_p or a min_p that differs by 1e-5 gives another
//   token copies and conversions    nothing: every element must be the rounded value itself
// A rounding deviates by about 0.4 u, so the factor 3 is seven standard deviations. check_bounds.cpp has the rest.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tactics/tactic.h"
#include "tune/runner.h"

namespace ingot {

// The inputs of a problem as typed bytes, each at a multiple of 64 bytes.
class Inputs {
 public:
  // Memory for inputs of these types, not initialized.
  explicit Inputs(Types types);
  Inputs(const Inputs& other);
  Inputs(Inputs&&) = default;
  Inputs& operator=(Inputs&&) = default;

  size_t size() const { return types_.size(); }
  std::byte* data(size_t input) const { return memory_[input].data(); }
  TensorView view(size_t input) const { return {types_[input], data(input)}; }
  std::vector<TensorView> views() const;

 private:
  Types types_;
  std::vector<AlignedBytes> memory_;
};

// Valid inputs, a pure function of problem and seed: indices in range, a step of decodes and chunks over scattered
// pages, slots that differ, floats around zero scaled so that outputs are around 1. Fast enough for whole weights. An
// Error when there are none (more tokens than the listed pages hold). Float inputs but the first of more than
// `largest_filled` bytes stay as the system gave them, for callers that bring other memory for them; with kIndicesOnly
// all float inputs do.
constexpr int64_t kIndicesOnly = -1;
Inputs make_inputs(const Problem& problem, uint64_t seed, int64_t largest_filled = INT64_MAX);

// The dtype that a kernel may round the operands of its products to: that of the weights or the KV cache. Sums are
// always in f32.
DType compute_dtype(const Problem& problem);

// The same op on another number of rows (tokens); nullopt when it has none.
std::optional<Problem> with_rows(const Problem& problem, int64_t rows);

enum class CheckMode { kFull, kSample };

struct CheckResult {
  bool ok = false;
  double worst = 0;   // the largest error as a fraction of what is allowed
  std::string where;  // the worst element if not ok; what was left unchecked if anything was
};

// What the outputs have to be. Made once, compared with many.
class Expected {
 public:
  // kFull: every element. kSample: at most 64 elements or a few rows, in about 50 ms at any size.
  Expected(const Problem& problem, const Inputs& inputs, CheckMode mode, DType compute);
  // `outputs`: row-major bytes, one for each output of the problem.
  CheckResult compare(std::span<const void* const> outputs) const;

 private:
  struct Element {
    int64_t index;  // in the whole output
    double value, bound;
  };
  Types types_;
  std::vector<std::vector<Element>> elements_;  // by output
  std::string unchecked_;
};

// Expected(…).compare(outputs).
CheckResult check_outputs(const Problem& problem, const Inputs& inputs, std::span<const void* const> outputs,
                          CheckMode mode);

}  // namespace ingot
