#include "generate/step_batch.h"

#include <algorithm>
#include <bit>

#include "tensor/sample_columns.h"

namespace ingot {

void StepBatch::clear(size_t group_count) {
  for (auto* list : {&ids, &positions, &query_starts, &context_lengths, &output_rows}) list->clear();
  query_starts.push_back(0);
  groups.resize(group_count);
  for (Group& group : groups) {
    for (auto* list : {&group.slots, &group.page_starts, &group.page_list, &group.context_starts}) list->clear();
    group.page_starts.push_back(0);
  }
  sampling.options.clear();
  sampling.choices.clear();
  sampling.listed.clear();
  outputs.clear();
  requests.clear();
}

void StepBatch::Sampling::pad(size_t rows) {
  constexpr size_t kFewest = 1024;  // numbers in a list that is not empty
  options.resize(rows * sample::kOptions, 0);
  for (size_t row = choices.size() / sample::kChoices; row < rows; ++row) {
    choices.resize((row + 1) * sample::kChoices, 0);
    choices[row * sample::kChoices + sample::kSeat] = -1;
  }
  if (!listed.empty()) listed.resize(std::max(kFewest, std::bit_ceil(listed.size())), 0);
}

}  // namespace ingot
