// One packed step: which tokens of which sequences run together, and the i32 inputs that say so (ops/attention.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ingot {

struct StepBatch {
  // Where a cache group keeps the sequences: "slots.g", "page_starts.g", "page_list.g", "context_starts.g".
  struct Group {
    std::vector<int32_t> slots, page_starts, page_list, context_starts;
  };
  // What the output rows want where the device chooses tokens (ops/sample.h): one row of options and of choices each.
  struct Sampling {
    std::vector<float> options;
    std::vector<int32_t> choices, listed;
    // Adds rows that choose nothing until there are so many, and fills the list up to a size that comes back.
    void pad(size_t rows);
  };
  // The logits row that an output gives: of the token at `position` of a request.
  struct Output {
    uint64_t request = 0;
    int64_t position = 0;
    bool operator==(const Output&) const = default;
  };

  std::vector<int32_t> ids, positions, query_starts, context_lengths, output_rows;
  std::vector<Group> groups;
  Sampling sampling;
  std::vector<Output> outputs;     // one per output row
  std::vector<uint64_t> requests;  // one per sequence

  int64_t tokens() const { return static_cast<int64_t>(ids.size()); }
  int64_t sequences() const { return static_cast<int64_t>(context_lengths.size()); }
  void clear(size_t group_count);
};

}  // namespace ingot
