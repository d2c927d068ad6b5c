#include "ops/indexing.h"

#include "ops/tensors.h"

namespace ingot {
namespace {

TEST(Embedding, PicksRowsOfTheTable) {
  HostTensor table = tensor("bf16[3, 2]", {1, 2, 3, 4, 5, 6});
  HostTensors y = call(Embedding{DType::kF32}, {tensor("i32[3]", {2, 0, 2}), table});
  expect_values(y[0], {5, 6, 1, 2, 5, 6});
  EXPECT_EQ(print(y[0].type), "f32[3, 2]");
  for (double id : {3.0, -1.0}) EXPECT_THROW(AnyOp(Embedding{}).evaluate({tensor("i32[1]", {id}), table}), Error);
}

TEST(GatherRows, PicksRows) {
  HostTensor x = tensor("f32[3, 2]", {1, 2, 3, 4, 5, 6});
  expect_values(call(GatherRows{}, {x, tensor("i32[2]", {1, 1})})[0], {3, 4, 3, 4});
  EXPECT_THROW(AnyOp(GatherRows{}).evaluate({x, tensor("i32[1]", {3})}), Error);
}

TEST(Slice, PicksColumns) {
  expect_values(call(Slice{1, 3}, {tensor("f32[2, 3]", {1, 2, 3, 4, 5, 6})})[0], {2, 3, 5, 6});
}

TEST(Indexing, TypesSymbolicSizes) {
  EXPECT_EQ(inferred(Embedding{DType::kBF16}, "i32[tokens] f32[100, 8]"), "bf16[tokens, 8]");
  EXPECT_EQ(inferred(GatherRows{}, "f16[tokens, 8] i32[outputs]"), "f16[outputs, 8]");
  EXPECT_EQ(inferred(Slice{2, 5}, "f16[tokens, 8]"), "f16[tokens, 3]");
}

TEST(Indexing, RefusesWhatDoesNotFit) {
  expect_contains(infer_error(Embedding{}, "f32[3] f32[4, 2]"), "ids, i32[tokens]");
  expect_contains(infer_error(Embedding{}, "i32[3] f32[4]"), "the table");
  expect_contains(infer_error(GatherRows{}, "f32[3, 2] i64[4]"), "rows, i32[outputs]");
  expect_contains(infer_error(Slice{2, 9}, "f32[3, 8]"), "found columns 2 to 9 where a part of 0 to 8");
  expect_contains(infer_error(Slice{3, 3}, "f32[3, 8]"), "found columns 3 to 3");
  expect_contains(infer_error(Slice{-1, 3}, "f32[3, 8]"), "found columns -1 to 3");
}

}  // namespace
}  // namespace ingot
