#include "ops/sample.h"

#include <algorithm>
#include <map>

#include "ops/tensors.h"

namespace ingot {
namespace {

// One row over the logits 0, 1, 3, 3, 2, with what a test wants of it.
struct Wish {
  std::vector<double> logits = {0, 1, 3, 3, 2};
  double temperature = 0, top_p = 1, min_p = 0, repetition = 1, presence = 0, frequency = 0;
  double seat = 0, top_k = 0, random = 0;
  std::vector<double> listed = {};  // pairs
  bool pending = false;
  double last = 0;
  double logprobs = -1;
};

HostTensors inputs_of(const Wish& w) {
  double high = std::floor(w.random * 0x1p31), low = std::floor((w.random - high * 0x1p-31) * 0x1p53);
  double pairs = static_cast<double>(w.listed.size() / 2);
  return {tensor(format("f32[1, {}]", w.logits.size()), w.logits),
          tensor("f32[1, 6]", {w.temperature, w.top_p, w.min_p, w.repetition, w.presence, w.frequency}),
          tensor("i32[1, 8]", {w.seat, w.top_k, high, low, 0, pairs, static_cast<double>(w.pending), w.logprobs}),
          tensor(format("i32[{}, 2]", w.listed.size() / 2), w.listed), tensor("i32[2]", {w.last, 77})};
}

int chosen(const Wish& wish) { return static_cast<int>(call(Sample{}, inputs_of(wish))[0].values[0]); }

// Every id that any random number gives.
std::vector<int> drawn(Wish wish) {
  std::map<int, int> seen;
  for (int i = 0; i < 2000; ++i) {
    wish.random = (i + 0.5) / 2000;
    ++seen[chosen(wish)];
  }
  std::vector<int> ids;
  for (auto [id, count] : seen) ids.push_back(id);
  return ids;
}

using Ids = std::vector<int>;

TEST(Sample, GreedyTakesTheSmallestOfTheLargest) {
  EXPECT_EQ(chosen({}), 2);
  EXPECT_EQ(chosen({.logits = {-1, NAN, -0.5, -INFINITY}}), 2);
  EXPECT_EQ(chosen({.logits = {NAN, NAN}}), 0);
  EXPECT_EQ(chosen({.logits = {NAN, -INFINITY}, .temperature = 1}), 1);
  EXPECT_EQ(chosen({.logits = {0, INFINITY, INFINITY}, .temperature = 1, .random = 0.99}), 1);
}

TEST(Sample, WritesWhatItChoseToTheSlot) {
  for (double seat : {0, 1}) {
    HostTensors results = call(Sample{}, inputs_of({.seat = seat, .last = 4}));
    expect_values(results[1], seat == 0 ? std::vector<double>{2, 77} : std::vector<double>{4, 2});
  }
  HostTensors none = call(Sample{}, inputs_of({.seat = -1, .last = 4}));
  expect_values(none[0], {-1});
  expect_values(none[1], {4, 77});
  EXPECT_THROW(AnyOp(Sample{}).evaluate(inputs_of({.seat = 2})), Error);
}

TEST(Sample, DrawsInTheOrderOfIds) {
  // The weights are 1, e, e³, e³, e² in turn.
  double total = 1 + std::exp(1) + 2 * std::exp(3) + std::exp(2);
  Wish wish{.temperature = 1};
  for (auto [random, id] :
       {std::pair{0.0, 0}, {0.9 / total, 0}, {1.1 / total, 1}, {(1 + std::exp(1) + 0.1) / total, 2}, {0.999999, 4}}) {
    wish.random = random;
    EXPECT_EQ(chosen(wish), id) << random;
  }
  // A lower temperature sharpens.
  EXPECT_EQ(drawn({.temperature = 0.05}), (Ids{2, 3}));
}

TEST(Sample, FiltersOneAfterTheOther) {
  EXPECT_EQ(drawn({.temperature = 1}), (Ids{0, 1, 2, 3, 4}));
  EXPECT_EQ(drawn({.temperature = 1, .top_k = 1}), (Ids{2}));  // of equal ones the smaller id
  EXPECT_EQ(drawn({.temperature = 1, .top_k = 3}), (Ids{2, 3, 4}));
  EXPECT_EQ(drawn({.temperature = 1, .top_k = 99}), (Ids{0, 1, 2, 3, 4}));
  // Two of e³ hold 78 %, the smaller ids first.
  EXPECT_EQ(drawn({.temperature = 1, .top_p = 0.3}), (Ids{2}));
  EXPECT_EQ(drawn({.temperature = 1, .top_p = 0.7}), (Ids{2, 3}));
  EXPECT_EQ(drawn({.temperature = 1, .top_p = 0.9}), (Ids{2, 3, 4}));
  // Of three candidates the first two hold 84 %: top-p sees what top-k left.
  EXPECT_EQ(drawn({.temperature = 1, .top_p = 0.83, .top_k = 3}), (Ids{2, 3}));
  EXPECT_EQ(drawn({.temperature = 1, .min_p = 0.3}), (Ids{2, 3, 4}));
  EXPECT_EQ(drawn({.temperature = 1, .min_p = 0.4}), (Ids{2, 3}));
}

TEST(Sample, PenalizesListedIds) {
  // Positive logits are divided, others multiplied.
  EXPECT_EQ(chosen({.repetition = 2, .listed = {2, 0}}), 3);
  EXPECT_EQ(chosen({.repetition = 2, .listed = {3, 0, 2, 5}}), 4);
  EXPECT_EQ(chosen({.logits = {-1, -1.5}, .repetition = 2, .listed = {0, 0}}), 1);
  // Presence and frequency count the answer only.
  EXPECT_EQ(chosen({.presence = 1, .listed = {2, 0}}), 2);
  EXPECT_EQ(chosen({.presence = 1, .listed = {2, 1}}), 3);
  EXPECT_EQ(chosen({.frequency = 0.6, .listed = {2, 1, 3, 2}}), 2);
  EXPECT_EQ(chosen({.frequency = 0.6, .listed = {2, 2, 3, 2}}), 4);
  // What must not be chosen is not.
  EXPECT_EQ(chosen({.listed = {2, -1, 3, -1}}), 4);
  EXPECT_EQ(drawn({.temperature = 1, .listed = {3, -1, 0, -1}}), (Ids{1, 2, 4}));
  // Ids outside the vocabulary change nothing.
  EXPECT_EQ(chosen({.repetition = 2, .listed = {5, 3, -1, 3}}), 2);
}

TEST(Sample, CountsTheTokenThatNobodyListedYet) {
  EXPECT_EQ(chosen({.presence = 1, .last = 2}), 2);
  EXPECT_EQ(chosen({.presence = 1, .pending = true, .last = 2}), 3);
  // One more than the list says.
  EXPECT_EQ(chosen({.frequency = 0.6, .listed = {3, 1, 2, 1}, .pending = true, .last = 2}), 3);
  EXPECT_EQ(chosen({.listed = {2, -1}, .pending = true, .last = 2}), 3);
}

// The first columns of what is told of the row.
std::vector<double> told(const Wish& wish, size_t output, size_t count) {
  std::vector<double> values = call(Sample{}, inputs_of(wish))[output].values;
  for (size_t i = count; i < values.size(); ++i) EXPECT_EQ(values[i], output == 2 ? -1 : 0);
  values.resize(count);
  return values;
}

TEST(Sample, TellsLogProbabilitiesOfTheLogitsAsTheyCame) {
  double sum = std::log(1 + std::exp(1) + 2 * std::exp(3) + std::exp(2));
  auto expect_near = [](const std::vector<double>& values, const std::vector<double>& expected) {
    ASSERT_EQ(values.size(), expected.size());
    for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], expected[i], 1e-6);
  };
  // Neither penalties nor temperature nor filters have a part in them.
  Wish wish{.temperature = 0.5, .top_k = 1, .listed = {2, -1, 3, -1}, .logprobs = 3};
  ASSERT_EQ(chosen(wish), 4);
  EXPECT_EQ(told(wish, 2, 3), (std::vector<double>{2, 3, 4}));
  expect_near(told(wish, 3, 4), {2 - sum, 3 - sum, 3 - sum, 2 - sum});
  // All there are; none; of a row that chooses nothing.
  EXPECT_EQ(told({.logprobs = 30}, 2, 5), (std::vector<double>{2, 3, 4, 1, 0}));
  expect_near(told({.logprobs = 0}, 3, 1), {3 - sum});
  EXPECT_TRUE(told({.logprobs = 0}, 2, 0).empty());
  EXPECT_TRUE(told({}, 3, 0).empty());
  EXPECT_TRUE(told({.seat = -1, .logprobs = 3}, 3, 0).empty());
  EXPECT_TRUE(told({.seat = -1, .logprobs = 3}, 2, 0).empty());
  // At most 20, of many.
  std::vector<double> many(50, 0.0);
  EXPECT_EQ(told({.logits = many, .logprobs = 50}, 2, 20).back(), 19);
  // Impossible ids, and what is no number.
  Wish odd{.logits = {-INFINITY, NAN, 1, -INFINITY}, .logprobs = 4};
  EXPECT_EQ(told(odd, 2, 4), (std::vector<double>{2, 0, 3, 1}));
  std::vector<double> logprobs = told(odd, 3, 5);
  EXPECT_EQ(logprobs[1], 0);
  EXPECT_EQ(logprobs[3], -INFINITY);
  EXPECT_TRUE(std::isnan(logprobs[4]));
  EXPECT_TRUE(std::isnan(told({.logits = {INFINITY, 1}, .logprobs = 0}, 3, 1)[0]));
}

TEST(Sample, TypesSymbolicSizes) {
  EXPECT_EQ(inferred(Sample{}, "f32[outputs, 50] f32[outputs, 6] i32[outputs, 8] i32[listed, 2] i32[seats]"),
            "i32[outputs] i32[seats] i32[outputs, 20] f32[outputs, 21]");
  EXPECT_EQ(AnyOp(Sample{}).aliased_input(1), 4);
  EXPECT_EQ(inferred(NextIds{}, "i32[tokens] i32[seats]"), "i32[tokens]");
}

TEST(Sample, RefusesWhatDoesNotFit) {
  expect_contains(infer_error(Sample{}, "bf16[4, 50] f32[4, 6] i32[4, 8] i32[3, 2] i32[9]"), "logits, f32");
  expect_contains(infer_error(Sample{}, "f32[4, 50] f32[3, 6] i32[4, 8] i32[3, 2] i32[9]"), "options, f32");
  expect_contains(infer_error(Sample{}, "f32[4, 50] f32[4, 6] i32[4, 6] i32[3, 2] i32[9]"), "choices, i32");
  expect_contains(infer_error(Sample{}, "f32[4, 50] f32[4, 6] i32[4, 8] i32[3] i32[9]"), "listed, i32");
  expect_contains(infer_error(Sample{}, "f32[4, 50] f32[4, 6] i32[4, 8] i32[3, 2] i32[9, 1]"), "last, i32");
  expect_contains(infer_error(NextIds{}, "f32[4] i32[2]"), "ids, i32");
}

TEST(NextIds, TakesTheIdOfASlot) {
  HostTensor last = tensor("i32[3]", {70, 80, 90});
  expect_values(call(NextIds{}, {tensor("i32[4]", {5, -1, 0, -3}), last})[0], {5, 70, 0, 90});
  EXPECT_THROW(AnyOp(NextIds{}).evaluate({tensor("i32[1]", {-4}), last}), Error);
}

}  // namespace
}  // namespace ingot
