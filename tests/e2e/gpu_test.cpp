// The bundled model on a GPU: tokens are chosen there, and the session runs one step ahead.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/json.h"
#include "base/mapped_file.h"
#include "device/cuda/device.h"
#include "e2e/models.h"
#include "generate/logit_evaluator.h"
#include "generate/token_session.h"
#include "ingot/generate.h"
#include "ops/sample.h"

namespace ingot {
namespace {

struct Told {
  std::vector<int32_t> ids;
  std::vector<SampledToken> tokens;
  std::string finish_reason;
  bool operator==(const Told& other) const { return ids == other.ids && finish_reason == other.finish_reason; }
};

class Gpu : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!cuda::Device::missing().empty()) return;
    BuildConfig config = untuned("float32");
    config.target = "cuda";
    engine_ = std::make_unique<Engine>(quick_engine(baker_7m(), config));
    loaded_ = LoadedEngine::load(engine_->directory());
  }
  static void TearDownTestSuite() {
    loaded_.reset();
    engine_.reset();
  }
  void SetUp() override {
    if (std::string missing = cuda::Device::missing(); !missing.empty()) GTEST_SKIP() << missing;
  }

  // A pool of so many pages of the model's cache; 0: plenty.
  static std::unique_ptr<TokenSession> session(bool run_ahead = true, StepRunnerOptions runner = {}) {
    if (runner.kv_cache_memory == 0) runner.kv_cache_memory = uint64_t{64} << 20;
    return std::make_unique<TokenSession>(loaded_, TokenSessionOptions{runner, std::nullopt, run_ahead});
  }
  static std::unique_ptr<TokenSession> cpu_session() {
    static const auto loaded = LoadedEngine::load(baker_engine().directory());
    return std::make_unique<TokenSession>(loaded, TokenSessionOptions{{.kv_cache_memory = uint64_t{64} << 20}});
  }
  static std::map<uint64_t, Told> finish(TokenSession& session) {
    std::map<uint64_t, Told> answers;
    while (!session.idle())
      for (TokenEvent& event : session.step()) {
        Told& told = answers[event.request];
        EXPECT_EQ(told.finish_reason, "") << "an answer goes on behind its end";
        told.ids.push_back(event.token.id);
        told.finish_reason = event.finish_reason;
        told.tokens.push_back(std::move(event.token));
      }
    return answers;
  }
  static Told answer(const std::vector<int32_t>& prompt, const SamplingParams& params, bool run_ahead = true) {
    auto one = session(run_ahead);
    uint64_t id = one->submit({prompt, params});
    return finish(*one).at(id);
  }
  static std::vector<int32_t> prompt(size_t count, int32_t seed) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < count; ++i) ids.push_back(10 + (seed * 131 + static_cast<int32_t>(i * i * 7)) % 900);
    return ids;
  }
  // One of each kind that the sampler knows.
  static std::vector<SamplingParams> every_kind(int64_t tokens) {
    std::vector<SamplingParams> kinds(9);
    kinds[1].temperature = 1;
    kinds[2].temperature = 0.8f, kinds[2].top_k = 20;
    kinds[3].temperature = 1.1f, kinds[3].top_p = 0.9f;
    kinds[4].temperature = 1, kinds[4].min_p = 0.05f;
    kinds[5].repetition_penalty = 1.3f;
    kinds[6].presence_penalty = 0.7f, kinds[6].frequency_penalty = 0.3f;
    kinds[7] = {.temperature = 0.9f,
                .top_k = 40,
                .top_p = 0.95f,
                .min_p = 0.02f,
                .repetition_penalty = 1.1f,
                .presence_penalty = 0.2f,
                .frequency_penalty = 0.1f};
    kinds[8].temperature = 1, kinds[8].logprobs = 3;
    for (size_t i = 0; i < kinds.size(); ++i) {
      kinds[i].seed = 100 + i;
      kinds[i].max_tokens = tokens;
      kinds[i].ignore_eos = true;
    }
    return kinds;
  }

  static std::unique_ptr<Engine> engine_;
  static std::shared_ptr<const LoadedEngine> loaded_;
};
std::unique_ptr<Engine> Gpu::engine_;
std::shared_ptr<const LoadedEngine> Gpu::loaded_;

TEST_F(Gpu, EveryGoldenContinuationIsEqualInFloat32) {
  Json golden = parse_json(read_text_file(repository() / "tests/data/baker-7m/golden.json"));
  TextCodec codec = TextCodec::from_dir(baker_7m());
  auto together = session();
  std::map<uint64_t, std::vector<int32_t>> expected;
  for (const auto& [text, entry] : golden.at("gen").as_object()) {
    std::vector<int32_t> begin = codec.encode(text, true), ids;
    for (const Json& id : entry.at("ids").as_array()) ids.push_back(static_cast<int32_t>(id.as_int()));
    ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(begin.size()));
    SamplingParams params{.ignore_eos = true, .max_tokens = static_cast<int64_t>(ids.size())};
    EXPECT_EQ(answer(begin, params).ids, ids) << text;
    expected[together->submit({begin, params})] = ids;
  }
  auto answers = finish(*together);
  for (const auto& [id, ids] : expected) {
    EXPECT_EQ(answers[id].ids, ids);
    EXPECT_EQ(answers[id].finish_reason, "length");
  }
}

TEST_F(Gpu, RunningAheadChangesNoToken) {
  for (const SamplingParams& params : every_kind(40)) {
    Told ahead = answer(prompt(12, 3), params), behind = answer(prompt(12, 3), params, false);
    EXPECT_EQ(ahead, behind) << "seed " << params.seed;
    EXPECT_EQ(ahead.ids.size(), 40u);
  }
}

// Where an answer is not what its request means, given the logits that this engine computes for it; "" when nowhere.
// Logits differ by rounding from one company to the next, so a token may also be the one on the other side of a border.
std::string unexplained(const std::shared_ptr<const LoadedEngine>& engine, const std::vector<int32_t>& prompt,
                        const SamplingParams& params, const std::vector<int32_t>& answer) {
  std::vector<int32_t> all = prompt;
  all.insert(all.end(), answer.begin(), answer.end() - 1);
  std::vector<float> logits = evaluate_logits(engine, all, {.kv_cache_memory = uint64_t{64} << 20});
  size_t vocab = logits.size() / all.size();
  Sampler sampler(params, prompt, {});
  for (size_t i = 0; i < answer.size(); ++i) {
    StepBatch::Sampling row;
    sampler.describe(0, false, row);
    const float* begin = logits.data() + (prompt.size() - 1 + i) * vocab;
    auto tensor = [](std::string_view type, auto first, auto last) {
      return HostTensor(parse_type(type), std::vector<double>(first, last));
    };
    HostTensors inputs = {tensor(format("f32[1, {}]", vocab), begin, begin + vocab),
                          tensor("f32[1, 6]", row.options.begin(), row.options.end()),
                          tensor("i32[1, 8]", row.choices.begin(), row.choices.end()),
                          tensor(format("i32[{}, 2]", row.listed.size() / 2), row.listed.begin(), row.listed.end()),
                          HostTensor(parse_type("i32[1]"))};
    auto gives = [&](double random, double top_p, double logit) {
      HostTensors shifted = inputs;
      double& high = shifted[2].values[sample::kRandomHigh];
      high = std::clamp(high + random * 0x1p31, 0.0, 0x1p31 - 1);
      shifted[1].values[sample::kTopP] += top_p;
      shifted[0].values[static_cast<size_t>(answer[i])] += logit;
      return static_cast<int32_t>(AnyOp(Sample{}).evaluate(shifted)[0].values[0]);
    };
    // Ever larger shifts: the token behind a border may be an unlikely one, which a large one would pass by.
    std::vector<int32_t> tokens = {gives(0, 0, 0)};
    if (params.temperature == 0) tokens.push_back(gives(0, 0, 1e-4));
    for (double shift = 1e-7; shift < 2e-4 && tokens[0] != answer[i] && params.temperature > 0; shift *= 2)
      for (double signed_shift : {shift, -shift})
        tokens.insert(tokens.end(), {gives(signed_shift, 0, 0), gives(0, signed_shift, 0)});
    if (std::count(tokens.begin(), tokens.end(), answer[i]) == 0)
      return format("token {} is {} where {} is meant", i, answer[i], tokens[0]);
    sampler.accept(answer[i]);
  }
  return "";
}

TEST_F(Gpu, EveryKindOfRequestRunsBesideTheOthers) {
  // Plenty of memory; chunks of prompts between decodes; and a pool in which requests are preempted.
  for (StepRunnerOptions runner : {StepRunnerOptions{}, StepRunnerOptions{.max_num_tokens = 16},
                                   StepRunnerOptions{.kv_cache_memory = uint64_t{5} << 20}}) {
    for (bool ahead : {true, false}) {
      SCOPED_TRACE(
          format("{} tokens in a step, {} bytes, ahead: {}", runner.max_num_tokens, runner.kv_cache_memory, ahead));
      auto many = session(ahead, runner);
      std::vector<SamplingParams> kinds = every_kind(60);
      std::vector<std::vector<int32_t>> prompts;
      std::vector<uint64_t> ids;
      for (const SamplingParams& params : kinds) {
        auto seed = static_cast<int32_t>(prompts.size());
        prompts.push_back(prompt(static_cast<size_t>(5 + 17 * seed), seed));
        ids.push_back(many->submit({prompts.back(), params}));
      }
      auto told = finish(*many);
      EXPECT_EQ(many->runner().pool().used_bytes(), 0u);
      if (runner.kv_cache_memory > 0) {
        EXPECT_GT(many->scheduler().preemptions(), 0);
      }
      many.reset();
      int different = 0;
      for (size_t i = 0; i < kinds.size(); ++i) {
        ASSERT_EQ(told[ids[i]].ids.size(), 60u);
        EXPECT_EQ(unexplained(loaded_, prompts[i], kinds[i], told[ids[i]].ids), "") << "request " << i;
        different += !(told[ids[i]] == answer(prompts[i], kinds[i]));
      }
      EXPECT_LE(different, 2) << "a border is rare";
    }
  }
}

TEST_F(Gpu, AnswersEndWhereTheyShould) {
  SamplingParams params{.ignore_eos = true, .max_tokens = 30};
  std::vector<int32_t> all = answer(prompt(9, 1), params).ids;
  ASSERT_EQ(all.size(), 30u);
  int32_t stop = all[11];
  size_t first = static_cast<size_t>(std::find(all.begin(), all.end(), stop) - all.begin());
  params.stop_ids = {stop};
  auto both = session();
  uint64_t stopped = both->submit({prompt(9, 1), params});
  params.stop_ids.clear();
  uint64_t whole = both->submit({prompt(9, 1), params});
  auto answers = finish(*both);
  EXPECT_EQ(answers[stopped].ids,
            std::vector<int32_t>(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(first) + 1));
  EXPECT_EQ(answers[stopped].finish_reason, "stop");
  EXPECT_EQ(answers[whole].ids, all);
  EXPECT_EQ(answers[whole].finish_reason, "length");
  EXPECT_EQ(both->runner().pool().used_bytes(), 0u);
  // A session that is idle again serves the next request.
  params.max_tokens = 1;
  uint64_t one = both->submit({prompt(9, 1), params});
  EXPECT_EQ(finish(*both).at(one).ids, std::vector<int32_t>(all.begin(), all.begin() + 1));
  // Stops are not drawn before min_tokens.
  params = {.stop_ids = {stop}, .ignore_eos = true, .min_tokens = 25, .max_tokens = 30};
  std::vector<int32_t> later = answer(prompt(9, 1), params).ids;
  EXPECT_GE(later.size(), 25u);
  EXPECT_EQ(std::count(later.begin(), later.begin() + 24, stop), 0);
}

TEST_F(Gpu, CancelsWhatIsUnderWay) {
  auto many = session();
  SamplingParams params{.ignore_eos = true, .max_tokens = 20};
  std::vector<uint64_t> ids;
  for (int32_t i = 0; i < 4; ++i) ids.push_back(many->submit({prompt(8, i), params}));
  many->step();
  many->cancel(ids[0]);
  many->step();
  many->cancel(ids[2]);
  uint64_t late = many->submit({prompt(8, 0), params});
  auto answers = finish(*many);
  EXPECT_FALSE(answers.contains(ids[0]));
  EXPECT_FALSE(answers.contains(ids[2]));
  EXPECT_EQ(answers[late].ids, answer(prompt(8, 0), params).ids);
  for (size_t i : {1, 3}) {
    std::vector<int32_t> expected = answer(prompt(8, static_cast<int32_t>(i)), params).ids;
    std::vector<int32_t> end = answers[ids[i]].ids;  // the first steps were not counted
    ASSERT_LE(end.size(), expected.size());
    EXPECT_TRUE(std::equal(end.rbegin(), end.rend(), expected.rbegin()));
  }
}

// The host's sampler on a CPU engine says what is right.
TEST_F(Gpu, TokensAreThoseOfTheCpu) {
  auto cpu = cpu_session();
  int different = 0;
  for (const SamplingParams& params : every_kind(40)) {
    uint64_t id = cpu->submit({prompt(12, 3), params});
    different += !(finish(*cpu).at(id) == answer(prompt(12, 3), params));
  }
  EXPECT_LE(different, 1) << "a border is rare";
}

TEST_F(Gpu, SeedsDecideTheTokens) {
  SamplingParams params{.temperature = 1, .ignore_eos = true, .max_tokens = 30};
  std::vector<Told> answers;
  for (params.seed = 0; params.seed < 4; ++params.seed) {
    answers.push_back(answer(prompt(12, 3), params));
    EXPECT_EQ(answers.back(), answer(prompt(12, 3), params)) << "seed " << params.seed;
    for (size_t i = 0; i + 1 < answers.size(); ++i)
      EXPECT_FALSE(answers[i] == answers.back()) << "seed " << params.seed;
  }
}

TEST_F(Gpu, TextsEndAsOnTheCpu) {
  SamplingParams params{.max_tokens = 60};
  const std::string begin = "The old man";
  std::string text = Session(*engine_).generate(begin, params).text;
  ASSERT_GT(text.size(), 60u);
  std::vector<SamplingParams> kinds(3, params);
  kinds[0].stop = {"never to be found", text.substr(30, 6)};
  kinds[1].stop_ids = {Session(*engine_).generate(begin, params).ids[20]};
  kinds[2].min_tokens = 50, kinds[2].stop = {text.substr(8, 4)};
  for (const SamplingParams& kind : kinds) {
    Generation gpu = Session(*engine_).generate(begin, kind), cpu = Session(baker_engine()).generate(begin, kind);
    EXPECT_EQ(gpu.finish_reason, "stop");
    EXPECT_EQ(gpu.finish_reason, cpu.finish_reason);
    EXPECT_EQ(gpu.text, cpu.text);
    EXPECT_EQ(gpu.ids, cpu.ids);
  }
}

// Of so many likeliest as the device tells, of more, and of none.
TEST_F(Gpu, LogProbabilitiesAreThoseOfTheCpu) {
  SamplingParams params{.logprobs = 4, .ignore_eos = true, .max_tokens = 12};
  std::vector<SamplingParams> kinds(5, params);
  kinds[1].logprobs = 20, kinds[1].temperature = 1, kinds[1].top_p = 0.9f;
  kinds[2].logprobs = 20, kinds[2].presence_penalty = 2, kinds[2].repetition_penalty = 1.5f;
  kinds[3].logprobs = 25;
  kinds[4].logprobs = 0;
  auto many = session(), cpu = cpu_session();
  std::vector<uint64_t> ids, cpu_ids;
  for (const SamplingParams& kind : kinds) {
    ids.push_back(many->submit({prompt(10, 2), kind}));
    cpu_ids.push_back(cpu->submit({prompt(10, 2), kind}));
  }
  auto answers = finish(*many), cpu_answers = finish(*cpu);
  for (size_t i = 0; i < kinds.size(); ++i) {
    SCOPED_TRACE(format("request {}", i));
    const Told &gpu = answers[ids[i]], &right = cpu_answers[cpu_ids[i]];
    ASSERT_EQ(gpu.ids, right.ids);
    for (size_t t = 0; t < gpu.tokens.size(); ++t) {
      const SampledToken &token = gpu.tokens[t], &expected = right.tokens[t];
      EXPECT_NEAR(token.logprob, expected.logprob, 1e-4);
      ASSERT_EQ(token.likeliest.size(), static_cast<size_t>(kinds[i].logprobs));
      ASSERT_EQ(expected.likeliest.size(), token.likeliest.size());
      for (size_t j = 0; j < token.likeliest.size(); ++j) {
        EXPECT_NEAR(token.likeliest[j].second, expected.likeliest[j].second, 1e-4);
        for (const auto& [id, logprob] : expected.likeliest) {
          if (id != token.likeliest[j].first) continue;
          EXPECT_NEAR(token.likeliest[j].second, logprob, 1e-4);
        }
      }
    }
  }
}

}  // namespace
}  // namespace ingot
