#include "generate/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include "base/error.h"
#include "tensor/sample_columns.h"

namespace ingot {
namespace {

std::vector<float> random_logits(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits;
  for (size_t i = 0; i < count; ++i) logits.push_back(normal(random));
  return logits;
}

SampledToken sample(const SamplingParams& params, std::vector<float> logits, const std::vector<int32_t>& prompt = {},
                    const std::vector<int32_t>& answer = {}, std::vector<int32_t> stops = {}) {
  Sampler sampler(params, prompt, std::move(stops));
  for (int32_t id : answer) sampler.accept(id);
  return sampler.sample(logits);
}

// What the parameters mean, with a full sort and probabilities in doubles: the ids that may be drawn.
std::vector<std::pair<int32_t, double>> distribution(const SamplingParams& p, const std::vector<float>& logits) {
  std::vector<std::pair<int32_t, double>> kept;
  for (size_t i = 0; i < logits.size(); ++i)
    kept.emplace_back(static_cast<int32_t>(i), static_cast<double>(logits[i] / p.temperature));
  std::stable_sort(kept.begin(), kept.end(), [](auto& a, auto& b) { return a.second > b.second; });
  auto to_probabilities = [](std::vector<std::pair<int32_t, double>> list) {
    double max = list[0].second, sum = 0;
    for (auto& [id, x] : list) sum += x = std::exp(x - max);
    for (auto& [id, x] : list) x /= sum;
    return list;
  };
  if (p.top_k > 0 && static_cast<size_t>(p.top_k) < kept.size()) kept.resize(static_cast<size_t>(p.top_k));
  double reached = 0;
  size_t count = 0;
  for (auto& [id, probability] : to_probabilities(kept)) {
    ++count;
    if ((reached += probability) >= static_cast<double>(p.top_p)) break;
  }
  if (p.top_p < 1) kept.resize(count);
  auto probabilities = to_probabilities(kept);
  count = 0;
  while (count < kept.size() && probabilities[count].second >= static_cast<double>(p.min_p) * probabilities[0].second)
    ++count;
  kept.resize(count);
  return to_probabilities(kept);
}

TEST(SamplerTest, GreedyTakesTheFirstOfTheLargest) {
  std::vector<float> logits = random_logits(5000, 1);
  logits[4000] = logits[4500] = 50;
  EXPECT_EQ(sample({}, logits).id, 4000);
  EXPECT_EQ(sample({}, {-1}).id, 0);
  EXPECT_EQ(sample({}, {-3, -2, -INFINITY}).id, 1);
}

TEST(SamplerTest, DrawsFromTheDistributionOfItsParameters) {
  const SamplingParams cases[] = {
      {.temperature = 1},
      {.temperature = 0.7f, .top_k = 5},
      {.temperature = 1.5f, .top_p = 0.8f},
      {.temperature = 1, .min_p = 0.1f},
      {.temperature = 1.2f, .top_k = 20, .top_p = 0.9f, .min_p = 0.05f},
      {.temperature = 2, .top_k = 1000, .top_p = 0.95f},
      {.temperature = 0.5f, .top_p = 0.01f},
      {.temperature = 1, .top_k = 1},
  };
  for (SamplingParams params : cases) {
    std::vector<float> logits = random_logits(200, 5);
    auto expected = distribution(params, logits);
    std::map<int32_t, int> counts;
    constexpr int kDraws = 20000;
    Sampler sampler(params, {}, {});
    for (int i = 0; i < kDraws; ++i) {
      std::vector<float> copy = logits;
      SampledToken token = sampler.sample(copy);
      ++counts[token.id];
      sampler.accept(token.id);
    }
    double statistic = 0;
    for (auto& [id, probability] : expected) {
      double mean = probability * kDraws;
      // A tail that is drawn hardly ever says nothing.
      if (mean > 20) statistic += (counts[id] - mean) * (counts[id] - mean) / mean;
      counts.erase(id);
    }
    EXPECT_TRUE(counts.empty()) << "drawn outside the distribution: " << counts.begin()->first;
    EXPECT_LT(statistic,
              static_cast<double>(expected.size()) + 5 * std::sqrt(2.0 * static_cast<double>(expected.size())) + 10);
  }
}

TEST(SamplerTest, TopPKeepsEnoughOfALargeFlatVocabulary) {
  std::vector<float> flat(20000, 1.0f);
  SamplingParams params{.temperature = 1, .top_p = 0.5f};
  std::set<int32_t> drawn;
  Sampler sampler(params, {}, {});
  for (int i = 0; i < 500; ++i) {
    std::vector<float> copy = flat;
    drawn.insert(sampler.sample(copy).id);
    sampler.accept(0);
  }
  EXPECT_LT(*drawn.rbegin(), 10001);  // ties go to the smaller ids
  EXPECT_GT(*drawn.rbegin(), 9800);
}

TEST(SamplerTest, DependsOnSeedAndPlaceAlone) {
  std::vector<float> logits = random_logits(1000, 9);
  SamplingParams params{.temperature = 1, .seed = 42};
  EXPECT_EQ(sample(params, logits).id, sample(params, logits).id);
  std::set<int32_t> by_seed, by_place;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    params.seed = seed;
    by_seed.insert(sample(params, logits).id);
    by_place.insert(sample({.temperature = 1}, logits, {}, std::vector<int32_t>(seed, 999)).id);
  }
  EXPECT_GT(by_seed.size(), 5u);
  EXPECT_GT(by_place.size(), 5u);
}

TEST(SamplerTest, CountedRandomIsUniform) {
  std::vector<int> buckets(16);
  for (uint64_t seed = 0; seed < 100; ++seed)
    for (uint64_t counter = 0; counter < 100; ++counter) {
      double value = counted_random(seed, counter);
      ASSERT_GE(value, 0);
      ASSERT_LT(value, 1);
      ++buckets[static_cast<size_t>(value * 16)];
    }
  for (int count : buckets) EXPECT_NEAR(count, 625, 125);
}

TEST(SamplerTest, AppliesPenalties) {
  // Repetition counts prompt and answer, presence and frequency the answer alone.
  std::vector<float> logits = {4, 3, 2, -1, -1.2f};
  EXPECT_EQ(sample({.repetition_penalty = 2}, logits, {0}).id, 1);
  EXPECT_EQ(sample({.repetition_penalty = 2}, logits, {0}, {1}).id, 0);  // 2, 1.5, 2: the first of the largest
  EXPECT_EQ(sample({.repetition_penalty = 1.5f}, {-9, -9, -9, -1, -1.2f}, {3}).id, 4);
  EXPECT_EQ(sample({.presence_penalty = 1.5f}, logits, {0}).id, 0);
  EXPECT_EQ(sample({.presence_penalty = 1.5f}, logits, {}, {0, 0, 0}).id, 1);
  EXPECT_EQ(sample({.presence_penalty = 0.5f}, logits, {}, {0, 0, 0}).id, 0);
  EXPECT_EQ(sample({.frequency_penalty = 0.5f}, logits, {}, {0, 0, 0}).id, 1);
}

TEST(SamplerTest, DrawsNoStopBeforeMinTokens) {
  std::vector<float> logits = {4, 3, 2};
  SamplingParams params{.min_tokens = 2};
  EXPECT_EQ(sample(params, logits, {}, {}, {0, 7, -1}).id, 1);
  EXPECT_EQ(sample(params, logits, {}, {1}, {0}).id, 1);
  EXPECT_EQ(sample(params, logits, {}, {1, 1}, {0}).id, 0);
}

TEST(SamplerTest, ReportsLogProbabilitiesOfTheModel) {
  std::vector<float> logits = {1, 3, 2, 3};
  double normalizer = std::log(std::exp(1.0) + 2 * std::exp(3.0) + std::exp(2.0));
  SampledToken token = sample({.repetition_penalty = 5, .logprobs = 3}, logits, {1, 3});
  EXPECT_EQ(token.id, 2);
  EXPECT_NEAR(token.logprob, 2 - normalizer, 1e-6);
  ASSERT_EQ(token.likeliest.size(), 3u);
  EXPECT_EQ(token.likeliest[0].first, 1);
  EXPECT_EQ(token.likeliest[1].first, 3);
  EXPECT_EQ(token.likeliest[2].first, 2);
  EXPECT_NEAR(token.likeliest[0].second, 3 - normalizer, 1e-6);
  EXPECT_EQ(sample({.logprobs = 100}, logits).likeliest.size(), 4u);
  EXPECT_EQ(sample({.logprobs = 0}, logits).likeliest.size(), 0u);
}

TEST(SamplerTest, SurvivesLogitsThatAreNoNumbers) {
  EXPECT_EQ(sample({.temperature = 1}, {NAN, NAN}).id, 0);
  EXPECT_EQ(sample({.temperature = 1, .top_k = 1, .top_p = 0.5f}, {-INFINITY, -INFINITY}).id, 0);
  SampledToken token = sample({.temperature = 1, .top_p = 0.5f}, {NAN, 1, 2, NAN, 0});
  EXPECT_GE(token.id, 0);
  EXPECT_LT(token.id, 5);
}

TEST(SamplerTest, RefusesParametersOutOfRange) {
  auto refused = [](const SamplingParams& params, const char* name) {
    try {
      check_sampling(params);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    }
  };
  EXPECT_NO_THROW(check_sampling({}));
  refused({.temperature = -1}, "temperature");
  refused({.temperature = NAN}, "temperature");
  refused({.top_k = -1}, "top_k");
  refused({.top_p = 0}, "top_p");
  refused({.top_p = 1.1f}, "top_p");
  refused({.min_p = 2}, "min_p");
  refused({.repetition_penalty = 0}, "repetition_penalty");
  refused({.presence_penalty = INFINITY}, "presence_penalty");
  refused({.frequency_penalty = NAN}, "frequency_penalty");
  refused({.stop = {""}}, "stop string");
  refused({.max_tokens = -1}, "max_tokens");
  refused({.min_tokens = 5, .max_tokens = 4}, "min_tokens");
}

// A row as the device sees it.
struct Row {
  std::vector<float> options;
  std::vector<int32_t> choices;
  std::map<int32_t, int32_t> listed;
};

Row described(const Sampler& sampler, bool pending, int32_t seat = 3) {
  StepBatch::Sampling rows;
  rows.listed = {1, 1};  // of another row
  sampler.describe(seat, pending, rows);
  Row row{rows.options, rows.choices, {}};
  EXPECT_EQ(row.choices[sample::kListedBegin], 1);
  for (size_t i = 2; i < rows.listed.size(); i += 2)
    EXPECT_TRUE(row.listed.emplace(rows.listed[i], rows.listed[i + 1]).second) << "listed twice";
  EXPECT_EQ(row.choices[sample::kListedEnd], 1 + static_cast<int32_t>(row.listed.size()));
  return row;
}

TEST(Sampler, DescribesARowForTheDevice) {
  SamplingParams params{.temperature = 0.5f, .top_k = int64_t{1} << 40, .top_p = 0.75f, .min_p = 0.25f, .seed = 9};
  Sampler sampler(params, std::vector<int32_t>{4, 4, 5}, {});
  Row row = described(sampler, false);
  EXPECT_EQ(row.options, (std::vector<float>{0.5f, 0.75f, 0.25f, 1, 0, 0}));
  EXPECT_EQ(row.choices[sample::kSeat], 3);
  EXPECT_EQ(row.choices[sample::kTopK], INT32_MAX);
  EXPECT_TRUE(row.listed.empty());
  EXPECT_EQ(row.choices[sample::kPending], 0);
  auto random = [](const Row& r) {
    return r.choices[sample::kRandomHigh] * 0x1p-31 + r.choices[sample::kRandomLow] * 0x1p-53;
  };
  EXPECT_EQ(random(row), counted_random(9, 0));
  // The token under way has taken the number before.
  EXPECT_EQ(random(described(sampler, true)), counted_random(9, 1));
  sampler.accept(7);
  EXPECT_EQ(random(described(sampler, false)), counted_random(9, 1));
}

TEST(Sampler, ListsWhatIsPenalizedOrForbidden) {
  using Listed = std::map<int32_t, int32_t>;
  Sampler repetition({.repetition_penalty = 2}, std::vector<int32_t>{4, 4, 5}, {});
  repetition.accept(5);
  repetition.accept(6);
  Row row = described(repetition, true);
  EXPECT_EQ(row.listed, (Listed{{4, 0}, {5, 1}, {6, 1}}));
  EXPECT_EQ(row.choices[sample::kPending], 1);
  EXPECT_EQ(described(repetition, false).choices[sample::kPending], 0);
  // Stops before min_tokens, each once; what is under way counts.
  Sampler waits({.frequency_penalty = 1, .min_tokens = 2}, {}, {9, 6, 9});
  EXPECT_EQ(described(waits, false).listed, (Listed{{6, -1}, {9, -1}}));
  waits.accept(6);
  EXPECT_EQ(described(waits, false).listed, (Listed{{6, -1}, {9, -1}}));
  EXPECT_EQ(described(waits, true).listed, (Listed{{6, 1}}));
}

TEST(Sampler, TellsWhatTheDeviceChoseAsIfItHadChosen) {
  SamplingParams params{.logprobs = 3};
  std::vector<float> logits = random_logits(50, 4), copy = logits;
  SampledToken here = sample(params, logits);
  SampledToken told = Sampler(params, {}, {}).tell(here.id, copy);
  EXPECT_EQ(told.id, here.id);
  EXPECT_EQ(told.logprob, here.logprob);
  EXPECT_EQ(told.likeliest, here.likeliest);
  EXPECT_EQ(Sampler({}, {}, {}).tell(17, {}).id, 17);
  // The device asks for the same, and tells it in columns.
  EXPECT_EQ(described(Sampler(params, {}, {}), false).choices[sample::kLogprobs], 3);
  std::vector<int32_t> likeliest(sample::kMostLikeliest, -1);
  std::vector<float> logprobs(1 + sample::kMostLikeliest, 0);
  logprobs[0] = here.logprob;
  for (size_t i = 0; i < 3; ++i) std::tie(likeliest[i], logprobs[1 + i]) = here.likeliest[i];
  told = Sampler(params, {}, {}).tell(here.id, likeliest, logprobs);
  EXPECT_EQ(told.id, here.id);
  EXPECT_EQ(told.logprob, here.logprob);
  EXPECT_EQ(told.likeliest, here.likeliest);
  told = Sampler({}, {}, {}).tell(17, likeliest, logprobs);
  EXPECT_EQ(told.id, 17);
  EXPECT_TRUE(told.likeliest.empty());
  // More than it has columns for is made of the logits.
  Sampler all({.logprobs = sample::kMostLikeliest + 1}, {}, {});
  EXPECT_FALSE(all.told_by_device());
  EXPECT_EQ(described(all, false).choices[sample::kLogprobs], -1);
}

TEST(Sampling, PadsWithRowsThatChooseNothing) {
  StepBatch::Sampling rows;
  Sampler({.temperature = 1}, {}, {}).describe(2, false, rows);
  rows.pad(3);
  EXPECT_EQ(rows.options.size(), 3 * 6u);
  ASSERT_EQ(rows.choices.size(), 3 * 8u);
  EXPECT_EQ(rows.choices[0], 2);
  for (size_t row : {1, 2}) EXPECT_EQ(rows.choices[row * 8], -1);
  EXPECT_TRUE(rows.listed.empty());
  rows.listed.assign(10, 1);
  rows.pad(3);
  size_t size = rows.listed.size();
  rows.listed.resize(12);
  rows.pad(3);
  EXPECT_EQ(rows.listed.size(), size) << "a list that grows a little keeps its size";
}

}  // namespace
}  // namespace ingot
