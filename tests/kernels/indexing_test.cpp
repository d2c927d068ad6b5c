#include "ops/indexing.h"

#include "kernels/run_kernel.h"
#include "ops/experts.h"

namespace ingot {
namespace {

TEST(IndexingKernels, EmbeddingReadsTablesOfEveryFloat) {
  const HostTensor ids = index_tensor({3, 0, 12, 12, 5});
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for (int64_t size : {1, 48, 777}) check_levels(Embedding{}, {ids, random_tensor(dtype, {13, size}, 1)}, 0, 0);
}

TEST(IndexingKernels, AnIdOutsideTheTableGivesZeros) {
  const HostTensor ids = index_tensor({1, 13, -1}), table = random_tensor(DType::kBF16, {13, 9}, 2);
  for (CpuLevel level : levels_of_this_machine()) {
    const auto y = run_kernel({kernel_name("embedding", level), ""}, Embedding{}, {ids, table})[0].values;
    for (size_t i = 0; i < 9; ++i) EXPECT_EQ(y[i], table.values[9 + i]);
    for (size_t i = 9; i < 27; ++i) EXPECT_EQ(y[i], 0);
  }
}

TEST(IndexingKernels, GatherAndSliceCopy) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const HostTensor x = random_tensor(dtype, {211, 97}, 3), rows = index_tensor({210, 0, 7, 7});
    expect_close(run_kernel({"cpu.gather_rows", "", 2}, GatherRows{}, {x, rows}),
                 AnyOp(GatherRows{}).evaluate({x, rows}), 0, 0, "gather_rows");
    const Slice slice{5, 92};
    expect_close(run_kernel({"cpu.slice", print_fields(slice), 2}, slice, {x}), AnyOp(slice).evaluate({x}), 0, 0,
                 "slice");
  }
}

TEST(RouteKernel, PicksByFallingProbability) {
  for (bool normalize : {true, false}) {
    for (int64_t top_k : {1, 2, 8, 60}) {
      HostTensor logits = random_tensor(DType::kF32, {33, 60}, 4, 2);
      for (size_t i = 0; i < 60; ++i) logits.values[i] = i % 3 == 0 ? 1 : -1;  // ties go by index
      const Route op{top_k, normalize};
      for (int threads : {1, 3})
        expect_close(run_kernel({"cpu.route", print_fields(op), threads}, op, {logits}), AnyOp(op).evaluate({logits}),
                     2e-6, 0, "route " + print_fields(op));
    }
  }
}

}  // namespace
}  // namespace ingot
