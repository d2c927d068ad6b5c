#include "generate/pad_decodes.h"

#include <gtest/gtest.h>

namespace ingot {
namespace {

// `sequences` decodes, each with `pages` pages of one group.
StepBatch decodes(int sequences, int pages) {
  StepBatch batch;
  batch.clear(1);
  for (int i = 0; i < sequences; ++i) {
    batch.ids.push_back(7), batch.positions.push_back(20), batch.output_rows.push_back(i);
    batch.query_starts.push_back(i + 1), batch.context_lengths.push_back(21);
    for (int p = 0; p < pages; ++p) batch.groups[0].page_list.push_back(i * pages + p + 1);
    batch.groups[0].page_starts.push_back((i + 1) * pages);
    batch.groups[0].slots.push_back(i), batch.groups[0].context_starts.push_back(0);
    batch.outputs.push_back({static_cast<uint64_t>(i), 20});
    batch.requests.push_back(static_cast<uint64_t>(i));
  }
  return batch;
}

void expect_consistent(const StepBatch& batch, size_t sequences, size_t pages) {
  EXPECT_EQ(batch.ids.size(), sequences);
  EXPECT_EQ(batch.positions.size(), sequences);
  EXPECT_EQ(batch.output_rows.size(), sequences);
  EXPECT_EQ(batch.query_starts.size(), sequences + 1);
  EXPECT_EQ(batch.context_lengths.size(), sequences);
  EXPECT_EQ(batch.groups[0].slots.size(), sequences);
  EXPECT_EQ(batch.groups[0].page_starts.size(), sequences + 1);
  EXPECT_EQ(batch.groups[0].context_starts.size(), sequences);
  EXPECT_EQ(batch.groups[0].page_list.size(), pages);
}

TEST(PadDecodes, FillsUpWithSequencesThatWriteNothing) {
  StepBatch batch = decodes(5, 30);
  pad_decodes(batch, {16, {4096}});
  expect_consistent(batch, 8, 256);
  for (size_t i = 5; i < 8; ++i) {
    EXPECT_EQ(batch.groups[0].slots[i], -1);
    EXPECT_EQ(batch.context_lengths[i], 0);
    EXPECT_EQ(batch.groups[0].page_starts[i + 1], 150);
    EXPECT_EQ(batch.query_starts[i + 1], static_cast<int32_t>(i + 1));
  }
  EXPECT_EQ(batch.outputs.size(), 5u);
  EXPECT_EQ(batch.sequences(), 8);
}

TEST(PadDecodes, StaysWithinTheLimits) {
  StepBatch batch = decodes(5, 30);
  pad_decodes(batch, {6, {200}});
  expect_consistent(batch, 6, 200);
  StepBatch many = decodes(70, 1);
  pad_decodes(many, {256, {4096}});
  expect_consistent(many, 96, 128);
}

TEST(PadDecodes, LeavesOtherStepsAlone) {
  StepBatch chunk = decodes(2, 3);
  chunk.ids.push_back(9), chunk.positions.push_back(21), ++chunk.query_starts.back();
  chunk.groups[0].slots.push_back(40);
  pad_decodes(chunk, {16, {4096}});
  EXPECT_EQ(chunk.tokens(), 3);
  EXPECT_EQ(chunk.groups[0].page_list.size(), 6u);
  StepBatch silent = decodes(2, 3);
  silent.output_rows.pop_back();
  pad_decodes(silent, {16, {4096}});
  EXPECT_EQ(silent.sequences(), 2);
}

}  // namespace
}  // namespace ingot
