#include "tune/check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <ctime>
#include <iostream>
#include <set>

#include "ops/attention.h"

namespace ingot {
namespace {

// One problem per op, with several outputs, states and dtypes among them.
const std::string_view kProblems[] = {
    "matmul f32[33, 129] bf16[70, 129] f32[70] f32[33, 70] {bias = true, function = gelu, residual = true}",
    "matmul bf16[4, 64] f32[300, 64]",
    "matmul bf16[9, 64] bf16[70, 64] f32[70] f32[9, 70] {bias = true, residual = true, wide = true}",
    "rms_norm f32[70, 96] f32[32]",
    "layer_norm bf16[9, 65] f32[65] f32[65]",
    "add_rms_norm bf16[9, 65] bf16[9, 65] f32[65]",
    "add_layer_norm f32[9, 65] f32[9, 65] f32[65] f32[65]",
    "add f32[90, 7] f32[7]",
    "multiply f32[90] f32[90]",
    "scale f16[20, 30] {factor = 3}",
    "soft_cap f32[20, 30] {cap = 30}",
    "activation f32[20, 30]",
    "gated_activation f32[20, 60]",
    "gated_activation bf16[20, 30] bf16[20, 30]",
    "cast f32[20, 30] {dtype = bf16}",
    "pointwise_chain bf16[20, 30] f32[30] f32[20, 30] {steps = \"scale(3), add, soft_cap(5), multiply, cast(f32)\"}",
    "embedding i32[20] bf16[50, 9]",
    "gather_rows f32[50, 9] i32[20]",
    "slice f32[20, 30] {begin = 3, end = 8}",
    "rope_angles i32[20] f32[16]",
    "rope f32[20, 96] f32[20, 16] {head_size = 32}",
    "kv_write bf16[9, 2, 16, 8] f32[30, 16] i32[30]",
    "attention f32[30, 64] f32[15, 2, 16, 16] f32[15, 2, 16, 16] i32[5] i32[4] i32[5] i32[12] i32[4] {heads = 4, scale "
    "= "
    "0.25, soft_cap = 20, window = 9}",
    "rope_kv_write f32[30, 128] f32[30, 8] bf16[9, 2, 16, 16] bf16[9, 2, 16, 16] i32[30] f32[16] f32[16] {heads = 4, "
    "norm "
    "= true}",
    "route f32[20, 16] {top_k = 4}",
    "expert_mlp f32[9, 32] i32[9, 2] f32[9, 2] bf16[6, 48, 32] bf16[6, 32, 24]",
};

struct Solved {
  explicit Solved(std::string_view text) : problem(parse_problem(text)), inputs(make_inputs(problem, 3)) {
    HostTensors tensors;
    for (const TensorView& view : inputs.views()) tensors.emplace_back(view);
    for (const HostTensor& output : problem.op.evaluate(tensors)) outputs.push_back(output.bytes());
  }
  std::vector<const void*> pointers() const {
    std::vector<const void*> pointers;
    for (const auto& output : outputs) pointers.push_back(output.data());
    return pointers;
  }
  CheckResult check(CheckMode mode) const { return check_outputs(problem, inputs, pointers(), mode); }

  Problem problem;
  Inputs inputs;
  std::vector<std::vector<std::byte>> outputs;
};

TEST(Check, AcceptsTheMeaningOfTheOp) {
  for (std::string_view text : kProblems) {
    for (CheckMode mode : {CheckMode::kFull, CheckMode::kSample}) {
      CheckResult result = Solved(text).check(mode);
      EXPECT_TRUE(result.ok) << text << ": " << result.where;
      EXPECT_EQ(result.where, "") << text;
      EXPECT_LE(result.worst, 1) << text;
    }
  }
}

// Rows 1 and 3 of the outputs are what the op makes of rows 1 and 3 of the inputs that have rows.
TEST(Check, OpsTellTheTruthAboutTheirRows) {
  std::set<std::string> mixing;
  for (std::string_view text : kProblems) {
    Solved all(text);
    std::vector<bool> rows = all.problem.op.row_inputs(all.problem.inputs);
    if (rows.empty()) mixing.emplace(all.problem.op.name());
    if (rows.empty()) continue;
    ASSERT_EQ(rows.size(), all.problem.inputs.size()) << text;
    HostTensors some;
    auto picked = [](HostTensor tensor) {
      auto width = static_cast<std::ptrdiff_t>(tensor.values.size()) / tensor.size(0);
      std::vector<double> values(tensor.values.begin() + width, tensor.values.begin() + 2 * width);
      values.insert(values.end(), tensor.values.begin() + 3 * width, tensor.values.begin() + 4 * width);
      tensor.type.shape[0] = Dim(2);
      return HostTensor(tensor.type, std::move(values));
    };
    HostTensors whole;
    for (const TensorView& view : all.inputs.views()) whole.emplace_back(view);
    for (size_t i = 0; i < whole.size(); ++i) some.push_back(rows[i] ? picked(whole[i]) : whole[i]);
    HostTensors expected = all.problem.op.evaluate(whole), found = all.problem.op.evaluate(some);
    for (size_t o = 0; o < expected.size(); ++o) EXPECT_EQ(found[o].values, picked(expected[o]).values) << text;
  }
  EXPECT_EQ(mixing, (std::set<std::string>{"attention", "kv_write", "rope_kv_write"}));
}

// A change of a fiftieth of what values usually are is an error for every op, at every element.
TEST(Check, FindsOneWrongElement) {
  for (std::string_view text : kProblems) {
    Solved good(text);
    for (size_t o = 0; o < good.outputs.size(); ++o) {
      DType dtype = good.problem.outputs[o].dtype;
      int64_t count = good.problem.outputs[o].elements();
      for (int64_t i : {int64_t{0}, count / 3, count / 2, count - 1}) {
        std::vector<std::byte> kept = good.outputs[o];
        double value = load_element(dtype, kept.data(), i);
        store_element(dtype, good.outputs[o].data(), i,
                      is_float(dtype) ? value + 0.05 * (1 + std::abs(value)) : value + 1);
        CheckResult result = good.check(CheckMode::kFull);
        EXPECT_FALSE(result.ok) << text << " output " << o << " element " << i;
        EXPECT_GT(result.worst, 1);
        EXPECT_NE(result.where, "");
        if (is_float(dtype)) {
          store_element(dtype, good.outputs[o].data(), i, NAN);
          EXPECT_FALSE(good.check(CheckMode::kFull).ok) << text << ": NaN";
        }
        good.outputs[o] = kept;
      }
    }
  }
}

TEST(Check, SamplesFindWrongResults) {
  for (std::string_view text : kProblems) {
    Solved bad(text);
    for (size_t o = 0; o < bad.outputs.size(); ++o) {
      std::vector<std::byte> kept = bad.outputs[o];
      std::memset(bad.outputs[o].data(), 0x11, bad.outputs[o].size());
      EXPECT_FALSE(bad.check(CheckMode::kSample).ok) << text << " output " << o;
      bad.outputs[o] = kept;
    }
  }
}

// f32 sums pass; sums of operands rounded to bf16 pass only where that is allowed, and a missing product never.
TEST(Check, BoundsMatmulsByTheComputeDtype) {
  Problem problem = parse_problem("matmul f32[4, 512] bf16[32, 512]");
  Inputs inputs = make_inputs(problem, 5);
  TensorView x = inputs.view(0), w = inputs.view(1);
  auto multiplied = [&](bool round_x, int64_t k) {
    std::vector<float> y(4 * 32);
    for (int64_t i = 0; i < 4 * 32; ++i)
      for (int64_t l = 0; l < k; ++l) {
        double a = x[i / 32 * 512 + l];
        y[static_cast<size_t>(i)] += static_cast<float>((round_x ? rounded(DType::kBF16, a) : a) * w[i % 32 * 512 + l]);
      }
    return y;
  };
  Expected strict(problem, inputs, CheckMode::kFull, DType::kF32),
      rounding(problem, inputs, CheckMode::kFull, DType::kBF16);
  auto accepts = [](const Expected& expected, const std::vector<float>& y) {
    const void* data = y.data();
    return expected.compare({&data, 1}).ok;
  };
  EXPECT_TRUE(accepts(strict, multiplied(false, 512)));
  EXPECT_FALSE(accepts(strict, multiplied(true, 512)));
  EXPECT_TRUE(accepts(rounding, multiplied(true, 512)));
  EXPECT_FALSE(accepts(strict, multiplied(false, 511)));
  EXPECT_FALSE(accepts(rounding, multiplied(false, 511)));
  EXPECT_EQ(compute_dtype(problem), DType::kBF16);
  EXPECT_EQ(compute_dtype(parse_problem("matmul bf16[4, 512] f32[32, 512]")), DType::kF32);
}

TEST(MakeInputs, ArePureFunctionsOfTheSeed) {
  Problem problem = parse_problem(kProblems[0]);
  Inputs a = make_inputs(problem, 1), b = make_inputs(problem, 1), c = make_inputs(problem, 2);
  for (size_t i = 0; i < a.size(); ++i) {
    size_t bytes = static_cast<size_t>(problem.inputs[i].bytes());
    EXPECT_EQ(std::memcmp(a.data(i), b.data(i), bytes), 0);
    EXPECT_NE(std::memcmp(a.data(i), c.data(i), bytes), 0);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(a.data(i)) % 64, 0u);
  }
}

TEST(MakeInputs, GiveResultsAroundOne) {
  for (std::string_view text : kProblems) {
    Solved solved(text);
    if (solved.problem.op.name() == "cast") continue;
    double squares = 0;
    int64_t count = solved.problem.outputs.back().elements();
    for (int64_t i = 0; i < count; ++i)
      squares += std::pow(load_element(solved.problem.outputs.back().dtype, solved.outputs.back().data(), i), 2);
    double rms = std::sqrt(squares / static_cast<double>(count));
    EXPECT_GT(rms, 0.05) << text;
    EXPECT_LT(rms, 5) << text;
  }
}

TEST(MakeInputs, MixDecodesAndChunks) {
  Problem problem = parse_problem(
      "attention f32[30, 64] f32[40, 2, 16, 16] f32[40, 2, 16, 16] i32[9] i32[8] i32[9] i32[33] i32[8] {heads = 4}");
  Inputs inputs = make_inputs(problem, 1);
  std::multiset<int64_t> tokens;
  for (int64_t s = 0; s < 8; ++s) tokens.insert(static_cast<int64_t>(inputs.view(3)[s + 1] - inputs.view(3)[s]));
  EXPECT_EQ(tokens.count(1), 5u);
  EXPECT_EQ(inputs.view(3)[8], 30);
  EXPECT_EQ(inputs.view(5)[8], 33);
  std::set<double> pages;
  for (int64_t i = 0; i < 33; ++i) pages.insert(inputs.view(6)[i]);
  EXPECT_EQ(pages.size(), 33u);
}

TEST(MakeInputs, WriteDifferentSlots) {
  for (std::string_view text :
       {"kv_write f32[9, 1, 16, 2] f32[140, 2] i32[140]", "kv_write f32[90, 1, 1, 2] f32[20, 2] i32[20]",
        "kv_write f32[2, 1, 4, 2] f32[20, 2] i32[20]"}) {
    Problem problem = parse_problem(text);
    Inputs inputs = make_inputs(problem, 1);
    std::set<double> seen;
    int64_t written = 0;
    for (int64_t i = 0; i < problem.inputs[2].elements(); ++i) {
      if (inputs.view(2)[i] == -1) continue;
      ++written;
      EXPECT_TRUE(seen.insert(inputs.view(2)[i]).second) << text;
    }
    EXPECT_GT(written, 0) << text;
  }
}

TEST(MakeInputs, SayWhyThereAreNone) {
  Problem problem = parse_problem(
      "attention f32[99, 64] f32[4, 2, 16, 16] f32[4, 2, 16, 16] i32[2] i32[1] i32[2] i32[3] i32[1] {heads = 4}");
  EXPECT_THROW(make_inputs(problem, 1), Error);
}

// Processor time is reported and not tested: the machine may be busy.
TEST(Check, SamplesBigProblemsQuickly) {
  auto ms = [](std::clock_t since) { return 1e3 * static_cast<double>(std::clock() - since) / CLOCKS_PER_SEC; };
  for (std::string_view text : {
           "matmul f32[16, 2048] bf16[16384, 2048]",
           "attention f32[16, 2048] bf16[2048, 8, 16, 64] bf16[2048, 8, 16, 64] i32[17] i32[16] i32[17] i32[2048] "
           "i32[16] "
           "{heads = 32, scale = 0.125}",
           "rope_kv_write f32[512, 3072] f32[512, 64] bf16[2048, 8, 16, 64] bf16[2048, 8, 16, 64] i32[512] {heads = "
           "32}",
           "embedding i32[512] bf16[128256, 256]",
           "gated_activation f32[512, 16384]",
       }) {
    Problem problem = parse_problem(text);
    std::clock_t start = std::clock();
    Inputs inputs = make_inputs(problem, 1);
    double making = ms(start), elements = 0;
    for (const TensorType& type : problem.inputs) elements += static_cast<double>(type.elements());
    start = std::clock();
    Expected expected(problem, inputs, CheckMode::kSample, compute_dtype(problem));
    std::cout << problem.op.name() << ": " << elements / making / 1e3 << " M elements/s made, checked in " << ms(start)
              << " ms\n";
    std::vector<std::vector<std::byte>> zeros;
    std::vector<const void*> outputs;
    for (const TensorType& type : problem.outputs) zeros.emplace_back(static_cast<size_t>(type.bytes()));
    for (const auto& zero : zeros) outputs.push_back(zero.data());
    EXPECT_FALSE(expected.compare(outputs).ok) << text;
  }
}

TEST(WithRows, ChangesTheRowsAlone) {
  auto key = [](std::string_view text) {
    auto other = with_rows(parse_problem(text), 2);
    return other ? other->key() : "";
  };
  EXPECT_EQ(key("matmul f32[9, 64] bf16[8, 64] f32[8] f32[9, 8] {bias = true, residual = true}"),
            "matmul f32[2, 64] bf16[8, 64] f32[8] f32[2, 8] {bias = true, residual = true}");
  EXPECT_EQ(key("add f32[9, 64] f32[64]"), "add f32[2, 64] f32[64]");
  EXPECT_EQ(key("add f32[9] f32[9]"), "add f32[2] f32[2]");
  EXPECT_EQ(key("rope f32[9, 64] f32[9, 8] {head_size = 8}"), "rope f32[2, 64] f32[2, 8] {head_size = 8}");
  EXPECT_EQ(key("embedding i32[9] f32[9, 8]"), "embedding i32[2] f32[9, 8]");
  EXPECT_EQ(key("gather_rows f32[9, 8] i32[9]"), "gather_rows f32[9, 8] i32[2]");
  EXPECT_EQ(key("kv_write f32[6, 2, 16, 64] f32[5, 128] i32[5]"), "kv_write f32[6, 2, 16, 64] f32[2, 128] i32[2]");
  EXPECT_EQ(key("scale f32[]"), "");
}

}  // namespace
}  // namespace ingot
