#include "generate/pad_decodes.h"

#include <algorithm>
#include <bit>

namespace ingot {

namespace {

constexpr int64_t kLastPower = 64, kStepBeyond = 32;
constexpr int64_t kFewestPages = 64;

int64_t padded_sequences(int64_t count) {
  if (count > kLastPower) return (count + kStepBeyond - 1) / kStepBeyond * kStepBeyond;
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(count)));
}

}  // namespace

void pad_decodes(StepBatch& batch, const PaddingLimits& limits) {
  int64_t sequences = batch.sequences();
  if (batch.tokens() != sequences || static_cast<int64_t>(batch.output_rows.size()) != sequences || sequences == 0)
    return;
  int64_t target = std::min(padded_sequences(sequences), limits.max_sequences);
  for (int64_t i = sequences; i < target; ++i) {
    batch.ids.push_back(0);
    batch.positions.push_back(0);
    batch.query_starts.push_back(static_cast<int32_t>(i + 1));
    batch.context_lengths.push_back(0);
    batch.output_rows.push_back(static_cast<int32_t>(i));
    for (StepBatch::Group& group : batch.groups) {
      group.slots.push_back(-1);
      group.page_starts.push_back(group.page_starts.back());
      group.context_starts.push_back(0);
    }
  }
  for (size_t g = 0; g < batch.groups.size(); ++g) {
    std::vector<int32_t>& list = batch.groups[g].page_list;
    auto pages =
        std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(kFewestPages, static_cast<int64_t>(list.size()))));
    list.resize(static_cast<size_t>(std::max(static_cast<int64_t>(list.size()),
                                             std::min(static_cast<int64_t>(pages), limits.max_pages[g]))),
                0);
  }
}

}  // namespace ingot
