// The programs (optimization profiles) of a language model: ranges of step sizes, each tuned for its upper end.
#pragma once

#include <vector>

#include "ir/network.h"
#include "tactics/tactic.h"

namespace ingot {

// What bounds a step.
struct StepLimits {
  int64_t max_batch_size = 16;
  int64_t max_seq_len = 0;
  int64_t max_num_tokens = 0;  // tokens in one step
  int64_t max_outputs = 0;     // rows whose logits one step can give
};

struct ProgramShape {
  std::vector<DimRange> dims;  // the ranges that the program accepts
  DimValues opt;               // the sizes at which problems are measured
  DimValues max;               // the sizes that memory is planned for
};

// Powers of two to 64 tokens, then every factor of four, up to the limit. A program with few tokens is measured as
// decodes (one token a sequence), one with many as the prefill of one sequence.
std::vector<ProgramShape> program_shapes(const Network& network, const StepLimits& limits, const Target& target);

// The op node `node` of `network` at sizes `dims`.
Problem problem_at(const Network& network, const Node& node, const DimValues& dims);

// Every different problem of the programs at their `opt` sizes, in the order of first appearance.
std::vector<Problem> list_problems(const Network& network, const std::vector<ProgramShape>& programs);

}  // namespace ingot
