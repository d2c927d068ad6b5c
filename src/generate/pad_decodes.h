// Fills steps of decodes up to sizes that come back, so that a GPU can replay a recorded step.
#pragma once

#include <cstdint>
#include <vector>

#include "generate/step_batch.h"

namespace ingot {

struct PaddingLimits {
  int64_t max_sequences = 1;
  std::vector<int64_t> max_pages;  // per group, of a page list
};

// If every sequence of the step has one token and gives one row of logits, adds sequences of one token that have no
// context, no pages and no slot (-1: nothing is written), and lengthens the page lists, until there are a power of two
// of sequences (from 64 on a multiple of 32) and of listed pages, as far as the limits allow. The rows of `outputs`
// come first. Other steps stay as they are.
void pad_decodes(StepBatch& batch, const PaddingLimits& limits);

}  // namespace ingot
