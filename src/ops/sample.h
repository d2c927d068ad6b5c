// The end and the beginning of a decode step: choosing tokens, and reading them in the next step.
#pragma once

#include "ops/op.h"
#include "tensor/sample_columns.h"

namespace ingot {

// The next token of each row of logits, as its request wants it: penalties, temperature, top-k, top-p, min-p in this
// order; ties go to the smaller id.
//   logits f32 [outputs, vocab]
//   options f32 [outputs, 6], choices i32 [outputs, 8]: the columns of tensor/sample_columns.h
//   listed i32 [listed, 2]: pairs of an id and how often the answer holds it. 0 says that only the prompt holds it, -1
//       that it must not be chosen. A row owns the pairs kListedBegin … kListedEnd - 1, in any order, no id twice
//   last i32 [seats]: the token that was chosen last for each seat
// -> ids i32 [outputs]; `last` with the new ids; likeliest i32 [outputs, 20]; logprobs f32 [outputs, 21]. A row of seat
// -1 chooses nothing: its id is -1. No two rows have the same other seat.
//
// A listed id: logit / repetition where the logit is above 0, else logit * repetition; then, with a count above 0,
// minus presence + frequency * count. With kPending the answer also holds last[seat], which `listed` does not count
// yet.
//
// Of the ids that are left, in the order of ids, the first is taken at which the sum of weights exp(logit /
// temperature) exceeds random * the sum of all. Top-k 0 takes all. Temperature 0 takes the largest logit; so does a row
// whose largest logit is not finite.
//
// A row that chooses, and whose kLogprobs is n >= 0, also tells log-probabilities of the model's own distribution:
// logit - ln Σ exp(logits), of the logits as they come. Column 0 of logprobs is that of the chosen id; column 1 + i
// that of the id in column i of likeliest. There stand the n likeliest ids, at most 20, likelier ones first; NaN is
// least likely and has no part in the sum. What is not told is -1 in likeliest, 0 in logprobs.
struct Sample {
  static constexpr std::string_view name = "sample";
  static constexpr auto fields() { return std::tuple{}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  int aliased_input(int output) const { return output == 1 ? 4 : -1; }
};

// y[i] = ids[i], or last[-ids[i] - 1] where that is negative: the token that was chosen last for that seat. ids i32
// [tokens], last i32 [seats]; y i32 [tokens].
struct NextIds {
  static constexpr std::string_view name = "next_ids";
  static constexpr auto fields() { return std::tuple{}; }
  Types infer(const Types& inputs) const;
  HostTensors evaluate(const HostTensors& inputs) const;
  std::vector<bool> row_inputs(const Types&) const { return {true, false}; }
};

}  // namespace ingot
