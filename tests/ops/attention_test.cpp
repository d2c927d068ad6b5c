#include "ops/attention.h"

#include "ops/indexing.h"
#include "ops/norm.h"
#include "ops/rope.h"
#include "ops/tensors.h"

namespace ingot {
namespace {

HostTensor indices(std::vector<double> values) {
  TensorType type{DType::kI32, {static_cast<int64_t>(values.size())}, ""};
  return HostTensor(type, std::move(values));
}

// One sequence whose pages are 0, 1, 2 …: q, k and v states, query_starts, context_lengths, page_starts, page_list,
// context_starts.
HostTensors one_sequence(HostTensor q, HostTensor k, HostTensor v, double context) {
  double tokens = static_cast<double>(q.size(0)), pages = static_cast<double>(k.size(0));
  std::vector<double> list;
  for (int64_t i = 0; i < k.size(0); ++i) list.push_back(static_cast<double>(i));
  return {std::move(q),       std::move(k),        std::move(v),  indices({0, tokens}),
          indices({context}), indices({0, pages}), indices(list), indices({0})};
}

TEST(KvWrite, PutsHeadsIntoPages) {
  HostTensor state(parse_type("f32[2, 2, 2, 1]"));  // pages, heads, page size, head size
  HostTensors y = call(KvWrite{}, {state, tensor("f32[3, 2]", {1, 2, 3, 4, 5, 6}), indices({3, -1, 0})});
  expect_values(y[0], {5, 0, 6, 0, 0, 1, 0, 2});
}

TEST(KvWrite, RefusesSlotsOutsideOfThePool) {
  HostTensor state(parse_type("f32[2, 1, 2, 1]"));
  for (double slot : {4.0, -2.0})
    EXPECT_THROW(AnyOp(KvWrite{}).evaluate({state, tensor("f32[1, 1]", {1}), indices({slot})}), Error);
}

TEST(Attention, WeighsValuesBySoftmax) {
  HostTensor k = tensor("f32[1, 1, 2, 1]", {1, 3}), v = tensor("f32[1, 1, 2, 2]", {10, 20, 30, 40});
  HostTensor y = call(Attention{1, 0.5f}, one_sequence(tensor("f32[1, 1]", {2}), k, v, 2))[0];
  double a = std::exp(1), b = std::exp(3);  // 2 * k * 0.5
  expect_values(y, {(10 * a + 30 * b) / (a + b), (20 * a + 40 * b) / (a + b)});
}

TEST(Attention, SeesItsOwnPositionAndEarlierOnes) {
  HostTensor k = tensor("f32[1, 1, 4, 1]", {0, 0, 0, 99}), v = tensor("f32[1, 1, 4, 1]", {1, 2, 6, 1e9});
  HostTensor y = call(Attention{}, one_sequence(tensor("f32[3, 1]", {1, 1, 1}), k, v, 3))[0];
  expect_values(y, {1, 1.5, 3});  // the fourth slot is beyond the context
  y = call(Attention{}, one_sequence(tensor("f32[1, 1]", {1}), k, v, 2))[0];
  expect_values(y, {1.5});
}

TEST(Attention, SeesOnlyItsWindow) {
  HostTensor k = tensor("f32[1, 1, 4, 1]", {0, 0, 0, 0}), v = tensor("f32[1, 1, 4, 1]", {1, 2, 6, 10});
  Attention op;
  op.window = 2;
  expect_values(call(op, one_sequence(tensor("f32[4, 1]", {1, 1, 1, 1}), k, v, 4))[0], {1, 1.5, 4, 8});
  op.window = 4;
  expect_values(call(op, one_sequence(tensor("f32[1, 1]", {1}), k, v, 4))[0], {4.75});
}

TEST(Attention, ReadsWindowsWhoseEarlierPagesWentAway) {
  // Positions 4 to 7 lie on the only listed page; the sequence stands at position 6.
  HostTensors in = one_sequence(tensor("f32[1, 1]", {1}), HostTensor(parse_type("f32[1, 1, 4, 1]")),
                                tensor("f32[1, 1, 4, 1]", {1, 2, 6, 100}), 7);
  in[7] = indices({4});
  Attention op;
  op.window = 2;
  expect_values(call(op, in)[0], {4});
  op.window = 4;  // would need position 3
  EXPECT_THROW(AnyOp(op).evaluate(in), Error);
}

TEST(Attention, CapsScores) {
  HostTensor k = tensor("f32[1, 1, 2, 1]", {0, 8}), v = tensor("f32[1, 1, 2, 1]", {0, 1});
  Attention op;
  op.soft_cap = 2;
  double weight = std::exp(2 * std::tanh(4.0));
  expect_values(call(op, one_sequence(tensor("f32[1, 1]", {1}), k, v, 2))[0], {weight / (1 + weight)});
}

TEST(Attention, SharesKvHeadsAmongQueryHeads) {
  HostTensor k(parse_type("f32[1, 2, 1, 1]")), v = tensor("f32[1, 2, 1, 1]", {5, 7});
  expect_values(call(Attention{4}, one_sequence(noise("f32[1, 4]"), k, v, 1))[0], {5, 5, 7, 7});
}

TEST(Attention, OfChunksEqualsThatOfTheWhole) {
  Attention op{4, 0.5f, 3, 6};
  HostTensor q = noise("f32[9, 16]"), k = noise("f32[3, 2, 4, 4]", 2), v = noise("f32[3, 2, 4, 8]", 3);
  HostTensor all = call(op, one_sequence(q, k, v, 9))[0];
  for (int64_t begin = 0; begin < 9; begin += 3) {
    HostTensor part(parse_type("f32[3, 16]"));
    std::copy_n(q.values.begin() + begin * 16, 48, part.values.begin());
    HostTensor y = call(op, one_sequence(part, k, v, static_cast<double>(begin + 3)))[0];
    for (size_t i = 0; i < 96; ++i) EXPECT_NEAR(y.values[i], all.values[static_cast<size_t>(begin) * 32 + i], 1e-13);
  }
}

TEST(Attention, DoesNotDependOnTheRestOfTheStepOrOnWherePagesLie) {
  Attention op{2, 0.5f};
  HostTensor q = noise("f32[3, 8]"), k = noise("f32[2, 1, 4, 4]", 2), v = noise("f32[2, 1, 4, 4]", 3);
  HostTensor alone = call(op, one_sequence(q, k, v, 7))[0];
  // The same sequence behind another one, its pages at 4 and 1 of a larger pool.
  HostTensor q2 = noise("f32[5, 8]", 4), k2 = noise("f32[5, 1, 4, 4]", 5), v2 = noise("f32[5, 1, 4, 4]", 6);
  std::copy_n(q.values.begin(), 24, q2.values.begin() + 16);
  for (auto [from, to] : {std::pair{0, 4}, {1, 1}}) {
    std::copy_n(k.values.begin() + from * 16, 16, k2.values.begin() + to * 16);
    std::copy_n(v.values.begin() + from * 16, 16, v2.values.begin() + to * 16);
  }
  HostTensor y = call(op, {q2, k2, v2, indices({0, 2, 5}), indices({5, 7}), indices({0, 2, 4}), indices({0, 3, 4, 1}),
                           indices({0, 0})})[0];
  for (size_t i = 0; i < 24; ++i) EXPECT_NEAR(y.values[16 + i], alone.values[i], 1e-13);
}

TEST(Attention, RefusesDamagedSteps) {
  HostTensors good = one_sequence(noise("f32[2, 1]"), noise("f32[2, 1, 2, 1]"), noise("f32[2, 1, 2, 1]"), 3);
  auto refuses = [&](size_t input, std::vector<double> values) {
    HostTensors in = good;
    in[input] = indices(std::move(values));
    EXPECT_THROW(AnyOp(Attention{}).evaluate(in), Error) << "input " << input;
  };
  EXPECT_NO_THROW(AnyOp(Attention{}).evaluate(good));
  refuses(3, {0, 3});  // more tokens than there are
  refuses(3, {2, 0});  // falling
  refuses(3, {-1, 2});
  refuses(4, {1});  // fewer positions than tokens
  refuses(4, {5});  // more positions than pages hold
  refuses(4, {2e9});
  refuses(5, {0, 3});
  refuses(6, {0, 2});  // a page outside of the pool
  refuses(6, {0, -1});
  refuses(7, {-2});
}

TEST(Attention, CountsOperations) {
  Types decode = {parse_type("f32[2, 128]"),
                  parse_type("f32[9, 1, 16, 64]"),
                  parse_type("f32[9, 1, 16, 32]"),
                  parse_type("i32[3]"),
                  parse_type("i32[2]"),
                  parse_type("i32[3]"),
                  parse_type("i32[8]"),
                  parse_type("i32[2]")};
  EXPECT_EQ((Attention{2}.flops(decode)), 2.0 * 2 * 2 * (64 + 32) * 64);
}

constexpr std::string_view kStates = " f32[9, 2, 4, 8] f32[9, 2, 4, 6]";
constexpr std::string_view kStep = " i32[sequences+1] i32[sequences] i32[sequences+1] i32[pages] i32[sequences]";

TEST(Attention, TypesSymbolicSteps) {
  std::string in = "bf16[tokens, 32]" + std::string(kStates) + std::string(kStep);
  EXPECT_EQ(inferred(Attention{4}, in), "bf16[tokens, 24]");
  EXPECT_EQ(inferred(KvWrite{}, "bf16[pool, 2, 4, 8] f32[tokens, 16] i32[tokens]"), "bf16[pool, 2, 4, 8]");
}

TEST(Attention, RefusesWhatDoesNotFit) {
  auto error = [](const Attention& op, const std::string& states, const std::string& step) {
    return infer_error(op, "f32[tokens, 32]" + states + step);
  };
  std::string states(kStates), step(kStep);
  EXPECT_EQ(error({4}, states, step), "");
  expect_contains(error({3}, states, step), "kv_heads divide 3 heads");
  expect_contains(error({0}, states, step), "heads = 0");
  expect_contains(error({2}, states, step), "q, a float matrix [tokens, 16]");
  expect_contains(error({4, 1, 0, -1}, states, step), "window = -1");
  expect_contains(error({4, 1, -1}, states, step), "soft_cap = -1");
  expect_contains(error({4}, " f32[9, 2, 4, 8] f32[9, 2, 3, 6]", step), "a v state with the pages and heads");
  expect_contains(error({4}, " f32[9, 0, 4, 8] f32[9, 0, 4, 6]", step), "the k state");
  expect_contains(error({4}, states, " i32[sequences] i32[sequences] i32[sequences+1] i32[pages] i32[sequences]"),
                  "query_starts, i32[sequences+1]");
  expect_contains(error({4}, states, " i32[sequences+1] i32[sequences] i32[sequences+1] i32[pages] i32[pages]"),
                  "context_starts, i32[sequences]");
  expect_contains(infer_error(KvWrite{}, "f32[9, 2, 4, 8] f32[tokens, 8] i32[tokens]"),
                  "x, a float matrix [tokens, 16]");
  expect_contains(infer_error(KvWrite{}, "f32[9, 2, 4, 8] f32[tokens, 16] i32[outputs]"), "slots, i32[tokens]");
}

TEST(RopeKvWrite, EqualsItsParts) {
  constexpr int64_t kHeads = 4, kKvHeads = 2, kSize = 6;
  HostTensor qkv = noise("f32[3, 48]"), angles = noise("f32[3, 4]", 2);
  HostTensor k_state = noise("bf16[2, 2, 4, 6]", 3), v_state = noise("bf16[2, 2, 4, 6]", 4);
  HostTensor q_gamma = noise("f32[6]", 5), k_gamma = noise("f32[6]", 6), slots = indices({7, -1, 2});
  for (bool norm : {false, true}) {
    for (bool interleaved : {false, true}) {
      HostTensor q = call(Slice{0, kHeads * kSize}, {qkv})[0];
      HostTensor k = call(Slice{kHeads * kSize, (kHeads + kKvHeads) * kSize}, {qkv})[0];
      HostTensor v = call(Slice{(kHeads + kKvHeads) * kSize, 48}, {qkv})[0];
      if (norm) q = call(RmsNorm{1e-5f}, {q, q_gamma})[0], k = call(RmsNorm{1e-5f}, {k, k_gamma})[0];
      q = call(Rope{kSize, interleaved}, {q, angles})[0];
      k = call(Rope{kSize, interleaved}, {k, angles})[0];
      HostTensors in = {qkv, angles, k_state, v_state, slots};
      if (norm) in.push_back(q_gamma), in.push_back(k_gamma);
      HostTensors y = call(RopeKvWrite{kHeads, interleaved, norm, 1e-5f}, in);
      expect_near(y[0], q);
      expect_near(y[1], call(KvWrite{}, {k_state, k, slots})[0]);
      expect_near(y[2], call(KvWrite{}, {v_state, v, slots})[0]);
    }
  }
}

TEST(RopeKvWrite, RefusesWhatDoesNotFit) {
  std::string states = " f32[9, 2, 4, 8] f32[9, 2, 4, 8]";
  EXPECT_EQ(inferred(RopeKvWrite{4}, "bf16[tokens, 64] f32[tokens, 8]" + states + " i32[tokens]"),
            "bf16[tokens, 32] f32[9, 2, 4, 8] f32[9, 2, 4, 8]");
  expect_contains(infer_error(RopeKvWrite{4}, "f32[t, 60] f32[t, 8]" + states + " i32[t]"), "qkv, a float matrix");
  expect_contains(infer_error(RopeKvWrite{4}, "f32[t, 64] f32[t, 10]" + states + " i32[t]"), "r even and at most 8");
  expect_contains(infer_error(RopeKvWrite{4}, "f32[t, 64] f32[t, 8]" + states + " i32[s]"), "slots, i32[t]");
  expect_contains(infer_error(RopeKvWrite{3}, "f32[t, 56] f32[t, 8]" + states + " i32[t]"), "kv_heads divide 3");
  expect_contains(infer_error(RopeKvWrite{4, false, true}, "f32[t, 64] f32[t, 8]" + states + " i32[t]"),
                  "found 5 inputs, needed 7");
  expect_contains(infer_error(RopeKvWrite{4, false, true}, "f32[t, 64] f32[t, 8]" + states + " i32[t] f32[8] f32[4]"),
                  "a gamma, f32[8]");
}

}  // namespace
}  // namespace ingot
