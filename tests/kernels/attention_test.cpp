#include "ops/attention.h"

#include <algorithm>

#include "kernels/cpu/attention.h"
#include "kernels/run_kernel.h"

namespace ingot {
namespace {

struct SequenceCase {
  int64_t queries, context;
  int64_t context_start = 0;
};

struct StepCase {
  std::vector<SequenceCase> sequences;
  int64_t heads = 4, kv_heads = 2, head_size = 48, v_head_size = 48, page_size = 16;
  DType dtype = DType::kF32;
  int64_t padding_tokens = 0;
  double spread = 1;  // of the queries
};

// q, k, v and the index inputs of a step whose pages lie scattered over the pool.
HostTensors step_inputs(const StepCase& step) {
  std::vector<double> query_starts = {0}, lengths, page_starts = {0}, starts;
  for (const SequenceCase& s : step.sequences) {
    query_starts.push_back(query_starts.back() + static_cast<double>(s.queries));
    lengths.push_back(static_cast<double>(s.context));
    const int64_t pages = (s.context - s.context_start + step.page_size - 1) / step.page_size;
    page_starts.push_back(page_starts.back() + static_cast<double>(pages));
    starts.push_back(static_cast<double>(s.context_start));
  }
  const auto pages = static_cast<int64_t>(page_starts.back()), tokens = static_cast<int64_t>(query_starts.back());
  std::vector<double> list(static_cast<size_t>(pages));
  for (size_t i = 0; i < list.size(); ++i) list[i] = static_cast<double>(i + 1);
  std::shuffle(list.begin(), list.end(), std::mt19937(11));
  const int64_t pool = pages + 2;
  return {random_tensor(DType::kF32, {tokens + step.padding_tokens, step.heads * step.head_size}, 1, step.spread),
          random_tensor(step.dtype, {pool, step.kv_heads, step.page_size, step.head_size}, 2),
          random_tensor(step.dtype, {pool, step.kv_heads, step.page_size, step.v_head_size}, 3),
          index_tensor(query_starts),
          index_tensor(lengths),
          index_tensor(page_starts),
          index_tensor(list),
          index_tensor(starts)};
}

HostTensor run_attention(const Attention& op, const HostTensors& inputs, CpuLevel level, int threads,
                         int64_t partial_floats = 1 << 20, int64_t tiles = 0) {
  AttentionParameters parameters{.heads = op.heads,
                                 .scale = op.scale,
                                 .soft_cap = op.soft_cap,
                                 .window = op.window,
                                 .threads = threads,
                                 .partial_floats = partial_floats};
  parameters.gives_tiles = tiles;
  const int64_t scratch =
      attention_scratch_bytes(parameters, level, inputs[1].size(3), inputs[2].size(3), inputs[4].size(0));
  const KernelRun run{kernel_name("attention", level), print_fields(parameters), threads, scratch, tiles};
  return run_kernel(run, op, inputs)[0];
}

// The levels that take these inputs: the AMX kernel reads bf16 states alone.
std::vector<CpuLevel> levels_for(const HostTensors& inputs) {
  std::vector<CpuLevel> levels = levels_of_this_machine();
  if (cpu_features().level == CpuLevel::kAmx && inputs[1].type.dtype == DType::kBF16) levels.push_back(CpuLevel::kAmx);
  return levels;
}

// AMX keeps 16 bits of the significands of queries and weights.
double loosened(double tolerance, CpuLevel level) { return level == CpuLevel::kAmx ? 8 * tolerance : tolerance; }

Attention attention_op(const StepCase& step) {
  return {step.heads, 1 / std::sqrt(static_cast<float>(step.head_size)), 0, 0};
}

void check(const Attention& op, const HostTensors& inputs, const std::string& what, double relative = 2e-5,
           double absolute = 2e-6) {
  const HostTensors expected = AnyOp(op).evaluate(inputs);
  for (CpuLevel level : levels_for(inputs)) {
    const HostTensor one = run_attention(op, inputs, level, 1);
    expect_close({one}, expected, loosened(relative, level), loosened(absolute, level),
                 what + " at " + std::string(enum_name(level)));
    for (int threads : {2, 4}) {
      const HostTensor many = run_attention(op, inputs, level, threads);
      EXPECT_TRUE(many.values == one.values)
          << what << ": " << threads << " threads change bits at " << enum_name(level);
    }
    EXPECT_TRUE(run_attention(op, inputs, level, 4, 0).values == one.values) << what << ": splitting changes bits";
  }
}

TEST(AttentionKernel, DecodesOfEveryGroupSize) {
  for (int64_t group : {1, 2, 3, 4, 7, 8, 16, 33}) {
    StepCase step{.sequences = {{1, 1}, {1, 77}, {1, 300}}, .heads = 2 * group};
    check(attention_op(step), step_inputs(step), "group " + std::to_string(group));
  }
}

TEST(AttentionKernel, HeadSizesAndPageSizes) {
  for (int64_t head_size : {1, 16, 20, 48, 64, 128}) {
    for (int64_t page_size : {1, 5, 16, 128}) {
      StepCase step{.sequences = {{1, 130}, {40, 75}}, .head_size = head_size, .page_size = page_size};
      step.v_head_size = head_size == 48 ? 32 : head_size;
      step.dtype = page_size == 5 ? DType::kF32 : DType::kBF16;
      check(attention_op(step), step_inputs(step), "head size " + std::to_string(head_size));
    }
  }
}

TEST(AttentionKernel, StatesOfEveryFloat) {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (int64_t head_size : {48, 64}) {
      StepCase step{.sequences = {{1, 300}, {70, 70}, {9, 200}}, .head_size = head_size, .v_head_size = head_size};
      step.dtype = dtype;
      check(attention_op(step), step_inputs(step), "dtype");
    }
  }
}

TEST(AttentionKernel, MixedStepsWithWindowsAndSoftCaps) {
  StepCase step{.sequences = {{1, 513}, {1, 20}, {3, 600}, {0, 5}, {130, 130}, {33, 401}}, .padding_tokens = 3};
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    step.dtype = dtype;
    const HostTensors inputs = step_inputs(step);
    for (int64_t window : {0, 1, 17, 256, 1000}) {
      for (float soft_cap : {0.0f, 5.0f}) {
        Attention op = attention_op(step);
        op.window = window;
        op.soft_cap = soft_cap;
        check(op, inputs, "window " + std::to_string(window) + " soft cap " + std::to_string(soft_cap));
      }
    }
  }
}

TEST(AttentionKernel, PagesThatAWindowLetGo) {
  StepCase step{.sequences = {{1, 513, 480}, {20, 300, 208}, {1, 100, 0}}};
  Attention op = attention_op(step);
  op.window = 30;
  check(op, step_inputs(step), "context starts");
}

TEST(AttentionKernel, LargeScoresDoNotOverflow) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    StepCase step{.sequences = {{1, 300}, {80, 80}, {80, 300}}, .dtype = dtype, .spread = 200};
    check(attention_op(step), step_inputs(step), "large scores", 2e-3, 5e-4);
  }
}

// Many rows a block, more keys than are laid out at once, heads whose blocks follow each other.
TEST(AttentionKernel, LongChunksOfManyHeads) {
  for (int64_t kv_heads : {1, 4}) {
    StepCase step{.sequences = {{300, 900}, {1, 600}, {270, 270}}, .heads = 8, .kv_heads = kv_heads};
    step.head_size = step.v_head_size = 32;
    step.page_size = kv_heads == 4 ? 5 : 16;
    step.dtype = DType::kBF16;
    const HostTensors inputs = step_inputs(step);
    for (int64_t window : {0, 150}) {
      Attention op = attention_op(step);
      op.window = window;
      check(op, inputs, "kv heads " + std::to_string(kv_heads) + " window " + std::to_string(window));
    }
  }
}

// The scores of later keys rise by less, and by more, than weights may exceed 1 before results are rescaled.
TEST(AttentionKernel, RisingScores) {
  StepCase step{.sequences = {{200, 500}}, .head_size = 64, .v_head_size = 64};
  step.dtype = DType::kBF16;
  for (double rise : {0.01, 0.1, 1.0}) {
    HostTensors inputs = step_inputs(step);
    const std::vector<double>& pages = inputs[6].values;
    for (int64_t token = 0; token < 200; ++token)
      for (int64_t head = 0; head < step.heads; ++head)
        inputs[0].values[static_cast<size_t>((token * step.heads + head) * 64)] = 8;
    for (int64_t position = 0; position < 500; ++position) {
      for (int64_t head = 0; head < step.kv_heads; ++head) {
        const int64_t page = static_cast<int64_t>(pages[static_cast<size_t>(position / 16)]);
        const int64_t vector = (page * step.kv_heads + head) * 16 + position % 16;
        inputs[1].values[static_cast<size_t>(vector * 64)] = static_cast<double>(position) * rise;
      }
    }
    round_values(inputs[1]);
    check(attention_op(step), inputs, "rise " + std::to_string(rise), 2e-3, 5e-4);
  }
}

// Tokens behind the last sequence are padding.
TEST(AttentionKernel, PaddingRowsAreZero) {
  StepCase step{.sequences = {{2, 9}}, .padding_tokens = 2};
  const HostTensor y = run_attention(attention_op(step), step_inputs(step), CpuLevel::kPortable, 1);
  for (int64_t i = 2 * 4 * 48; i < 4 * 4 * 48; ++i) EXPECT_EQ(y.values[static_cast<size_t>(i)], 0);
}

// As the product that reads them would round them, in tiles.
TEST(AttentionKernel, HandsOverTiles) {
  if (!cpu_features().avx512_bf16) GTEST_SKIP() << "needs avx512_bf16";
  int compared = 0;
  for (int64_t head_size : {32, 48, 64, 128})
    for (int64_t padding : {0, 5})
      for (const std::vector<SequenceCase>& sequences : {std::vector<SequenceCase>{{1, 300}, {1, 20}},
                                                         {{1, 513}, {3, 600}, {0, 5}, {130, 130}, {33, 401}},
                                                         {{560, 560}}}) {
        StepCase step{.sequences = sequences, .head_size = head_size, .v_head_size = head_size};
        step.dtype = DType::kBF16;
        step.padding_tokens = padding;
        const HostTensors inputs = step_inputs(step);
        const Attention op = attention_op(step);
        for (CpuLevel level : levels_for(inputs))
          for (int64_t block : {128, 512}) {
            if (!attention_gives_tiles(level, 16, step.heads, head_size, block)) continue;
            HostTensor expected = run_attention(op, inputs, level, 2);
            for (double& value : expected.values) value = bf16_to_float(float_to_bf16(static_cast<float>(value)));
            for (int threads : {1, 3})
              expect_close({run_attention(op, inputs, level, threads, 1 << 20, block)}, {expected}, 0, 0, "tiles");
            ++compared;
          }
      }
  EXPECT_GT(compared, 0);
  EXPECT_FALSE(attention_gives_tiles(CpuLevel::kAmx, 512, 4, 48, 512));
  EXPECT_FALSE(attention_gives_tiles(CpuLevel::kAmx, 512, 4, 96, 512));
  EXPECT_FALSE(attention_gives_tiles(CpuLevel::kAmx, 15, 4, 64, 512));
  EXPECT_THROW(make_kernel("cpu.attention_avx512", "{gives_tiles = 40}"), Error);
  EXPECT_THROW(make_kernel("cpu.attention_avx2", "{gives_tiles = 512}"), Error);
}

// Rows [begin, end) of the whole prefill's queries, as one later chunk.
TEST(AttentionKernel, ChunksEqualTheWholePrefill) {
  StepCase step{.sequences = {{200, 200}}, .head_size = 64, .v_head_size = 64};
  step.dtype = DType::kBF16;
  const Attention op = attention_op(step);
  const HostTensors inputs = step_inputs(step);
  const int64_t width = step.heads * step.head_size;
  for (CpuLevel level : levels_for(inputs)) {
    const HostTensor whole = run_attention(op, inputs, level, 2);
    for (int64_t chunk : {1, 3, 64}) {
      for (int64_t begin = 0; begin < 200; begin += chunk) {
        const int64_t end = std::min<int64_t>(200, begin + chunk);
        HostTensors part = inputs;
        part[0] = HostTensor(tensor_type(DType::kF32, {end - begin, width}),
                             {inputs[0].values.begin() + begin * width, inputs[0].values.begin() + end * width});
        part[3] = index_tensor({0, static_cast<double>(end - begin)});
        part[4] = index_tensor({static_cast<double>(end)});
        const HostTensor rows(part[0].type, {whole.values.begin() + begin * width, whole.values.begin() + end * width});
        expect_close({run_attention(op, part, level, 2)}, {rows}, loosened(1e-5, level), loosened(1e-6, level),
                     "chunk of " + std::to_string(chunk));
      }
    }
  }
}

TEST(AttentionKernel, ASequenceDoesNotSeeTheRestOfTheStep) {
  StepCase step{.sequences = {{1, 700}, {1, 90}, {50, 50}}};
  const Attention op = attention_op(step);
  const HostTensors inputs = step_inputs(step);
  HostTensors alone = inputs;
  const int64_t width = step.heads * step.head_size;
  alone[0] =
      HostTensor(tensor_type(DType::kF32, {1, width}), {inputs[0].values.begin(), inputs[0].values.begin() + width});
  alone[3] = index_tensor({0, 1});
  alone[4] = index_tensor({700});
  alone[5] = index_tensor({0, 44});
  alone[7] = index_tensor({0});
  for (CpuLevel level : levels_for(inputs)) {
    const HostTensor together = run_attention(op, inputs, level, 4), single = run_attention(op, alone, level, 4);
    for (size_t i = 0; i < static_cast<size_t>(width); ++i) ASSERT_EQ(together.values[i], single.values[i]);
  }
}

TEST(AttentionKernel, RefusesDamagedParameters) {
  EXPECT_THROW(make_kernel("cpu.attention_portable", "{heads = 0}"), Error);
  EXPECT_THROW(make_kernel("cpu.attention_portable", "{threads = -1}"), Error);
  EXPECT_THROW(make_kernel("cpu.attention_portable", "{hats = 3}"), Error);
  EXPECT_THROW(make_kernel("cpu.rms_norm_portable", "{epsilon = 1e-5} and more"), Error);
}

}  // namespace
}  // namespace ingot
