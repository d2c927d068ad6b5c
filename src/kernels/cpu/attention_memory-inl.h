// What CPU attention works in: its scratch memory, and the pages of the cache. For attention.cpp alone.
#pragma once

#include <algorithm>

#include "kernels/cpu/attention_blocks.h"
#include "kernels/cpu/attention_plan.h"
#include "kernels/kernel.h"

namespace ingot {
namespace {

constexpr int64_t kMostFollowing = 32;  // rows of the next block that a kernel may prefetch

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Hands out pieces of scratch, each aligned to 64 bytes. Without memory it only measures.
class ScratchPieces {
 public:
  explicit ScratchPieces(std::byte* memory) : memory_(memory) {}
  template <class T>
  T* take(int64_t count) {
    std::byte* piece = memory_ ? memory_ + bytes_ : nullptr;
    bytes_ += round_up(count * static_cast<int64_t>(sizeof(T)), 64);
    return reinterpret_cast<T*>(piece);
  }
  int64_t bytes() const { return bytes_; }

 private:
  std::byte* memory_;
  int64_t bytes_ = 0;
};

// The running results of the rows of a block, row by row.
struct RowResults {
  float* greatest;
  float* sums;
  float* values;  // [rows][v_stride]
};

struct Block {
  const SequencePlan* plan = nullptr;
  int64_t first_query = 0, queries = 0, kv_head = 0;
};

// One thread's memory.
struct ThreadScratch {
  AttentionRows rows;
  float *k, *v;  // or bf16, then for most_wide_keys
  RowResults folded, segment;
  const float** sources;
  float** targets;
  bool new_queries = false;  // wide: rows.q does not hold them yet
  Block laid_out;            // k and v hold the bf16 vectors of its sequence and head
  KeyRange laid_out_range;   // from the first to the last of them; empty at first

  ThreadScratch(ScratchPieces& pieces, const AttentionFunctions& functions, int64_t k_stride, int64_t v_stride) {
    const int64_t most_rows = functions.most_wide_rows;
    const int64_t keys = std::max(kKeyBlock, functions.most_wide_keys * size_of(DType::kBF16) / size_of(DType::kF32));
    rows.k_stride = k_stride;
    rows.v_stride = v_stride;
    rows.values_bf16 = pieces.take<uint16_t>(functions.wide_takes_bf16 ? functions.most_wide_keys * v_stride : 0);
    rows.q = pieces.take<float>(most_rows * k_stride);
    rows.positions = pieces.take<int32_t>(most_rows);
    rows.scores = pieces.take<float>(kMaxWideRows * kKeyBlock);
    rows.greatest = pieces.take<float>(most_rows);
    rows.sums = pieces.take<float>(most_rows);
    rows.factors = pieces.take<float>(most_rows);
    rows.result = pieces.take<float>(most_rows * v_stride);
    k = pieces.take<float>(keys * k_stride);
    v = pieces.take<float>(keys * v_stride);
    for (RowResults* results : {&folded, &segment}) {
      results->greatest = pieces.take<float>(kMaxWideRows);
      results->sums = pieces.take<float>(kMaxWideRows);
      results->values = pieces.take<float>(kMaxWideRows * v_stride);
    }
    rows.sources = sources = pieces.take<const float*>(most_rows + kMostFollowing);
    rows.targets = targets = pieces.take<float*>(most_rows);
  }
};

// A state [pool_pages, kv_heads, page_size, size] as one kv head of one sequence reads it.
struct PagedVectors {
  DType dtype;
  int64_t kv_heads, page_size, size, vector_bytes;
  const char* data;

  explicit PagedVectors(const Argument& state)
      : dtype(state.dtype),
        kv_heads(state.size[1]),
        page_size(state.size[2]),
        size(state.size[3]),
        vector_bytes(size * size_of(dtype)),
        data(state.as<char>()) {}

  // f(memory, vectors, vectors before) for each run of `count` positions from `position` on that lies in one page.
  template <class F>
  void for_each_run(const SequencePlan& plan, int64_t head, int64_t position, int64_t count, F f) const {
    int64_t slot = position - plan.context_start;
    for (int64_t done = 0; done < count;) {
      const int64_t offset = slot % page_size, run = std::min(page_size - offset, count - done);
      const int64_t vector = (plan.pages[slot / page_size] * kv_heads + head) * page_size + offset;
      f(data + vector * vector_bytes, run, done);
      done += run;
      slot += run;
    }
  }

  void prefetch(const SequencePlan& plan, int64_t head, int64_t position, int64_t count) const {
    for_each_run(plan, head, position, count, [&](const char* memory, int64_t run, int64_t) {
      for (int64_t byte = 0; byte < run * vector_bytes; byte += 64) __builtin_prefetch(memory + byte);
    });
  }
};

}  // namespace
}  // namespace ingot
