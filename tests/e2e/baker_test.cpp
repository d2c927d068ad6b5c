// The bundled model: its golden continuations and perplexity, and all that sampling promises.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "base/json.h"
#include "base/mapped_file.h"
#include "e2e/gpu.h"
#include "e2e/models.h"
#include "ingot/generate.h"
#include "ingot/inspect.h"

namespace ingot {
namespace {

constexpr const char* kPrompt = "Holmes looked at me and";

SamplingParams tokens(int64_t count) {
  SamplingParams params;
  params.max_tokens = count;
  params.ignore_eos = true;
  return params;
}

Generation answer(const SamplingParams& params, const std::string& prompt = kPrompt) {
  static Session session(baker_engine(), {.threads = 2});
  return session.generate(prompt, params);
}

std::vector<int32_t> ids_of(const Json& json) {
  std::vector<int32_t> ids;
  for (const Json& id : json.as_array()) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

TEST(Baker, EveryGoldenContinuationIsEqualInFloat32) {
  Json golden = parse_json(read_text_file(repository() / "tests/data/baker-7m/golden.json"));
  TextCodec codec = TextCodec::from_dir(baker_7m());
  Session session(baker_engine(), {.threads = 2});
  ASSERT_FALSE(golden.at("gen").as_object().empty());
  std::vector<std::string> prompts;
  std::vector<std::vector<int32_t>> wanted;
  for (const auto& [prompt, expected] : golden.at("gen").as_object()) {
    std::vector<int32_t> ids = ids_of(expected.at("ids")), begin = codec.encode(prompt, true);
    ASSERT_TRUE(std::equal(begin.begin(), begin.end(), ids.begin())) << prompt;
    EXPECT_EQ(codec.decode(ids, false), expected.at("text").as_string());
    ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(begin.size()));
    EXPECT_EQ(session.generate(prompt, tokens(static_cast<int64_t>(ids.size()))).ids, ids) << prompt;
    prompts.push_back(prompt);
    wanted.push_back(ids);
  }
  // All of them side by side.
  std::vector<Generation> together = session.generate_all(prompts, tokens(static_cast<int64_t>(wanted[0].size())));
  for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(together[i].ids, wanted[i]) << prompts[i];
}

double eval_perplexity(const Engine& engine) {
  Perplexity p = perplexity(engine, read_text_file(shared_file("text/eval.txt")), 1024, 2);
  EXPECT_EQ(p.windows, 39);
  EXPECT_EQ(p.tokens, 39936);
  EXPECT_NEAR(std::log(p.perplexity), p.nll, 1e-9);
  return p.perplexity;
}

TEST(Baker, PerplexityOnTheEvaluationText) {
  if (!std::filesystem::exists(shared_file("text/eval.txt"))) GTEST_SKIP() << "there is no shared/text/eval.txt";
  EXPECT_NEAR(eval_perplexity(baker_engine()), 39.1732, 0.005);
}

TEST(Baker, PerplexityInBFloat16) {
  if (!std::filesystem::exists(shared_file("text/eval.txt"))) GTEST_SKIP() << "there is no shared/text/eval.txt";
  EXPECT_NEAR(eval_perplexity(quick_engine(baker_7m(), untuned("bfloat16"))), 39.1732, 0.1);
}

const Engine& gpu_engine(const std::string& dtype) {
  static std::map<std::string, Engine> engines;
  BuildConfig config = untuned(dtype);
  config.target = "cuda";
  config.max_num_tokens = 2048;
  if (!engines.contains(dtype)) engines.emplace(dtype, quick_engine(baker_7m(), config));
  return engines.at(dtype);
}

TEST(Baker, EveryGoldenContinuationIsEqualOnTheGpu) {
  if (!gpu_missing().empty()) GTEST_SKIP() << gpu_missing();
  Json golden = parse_json(read_text_file(repository() / "tests/data/baker-7m/golden.json"));
  Session session(gpu_engine("float32"));
  std::vector<std::string> prompts;
  std::vector<std::vector<int32_t>> wanted;
  for (const auto& [prompt, expected] : golden.at("gen").as_object()) {
    std::vector<int32_t> ids = ids_of(expected.at("ids"));
    size_t begin = TextCodec::from_dir(baker_7m()).encode(prompt, true).size();
    ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(begin));
    EXPECT_EQ(session.generate(prompt, tokens(static_cast<int64_t>(ids.size()))).ids, ids) << prompt;
    prompts.push_back(prompt);
    wanted.push_back(ids);
  }
  std::vector<Generation> together = session.generate_all(prompts, tokens(static_cast<int64_t>(wanted[0].size())));
  for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(together[i].ids, wanted[i]) << prompts[i];
}

TEST(Baker, PerplexityOnTheGpu) {
  if (!gpu_missing().empty()) GTEST_SKIP() << gpu_missing();
  if (!std::filesystem::exists(shared_file("text/eval.txt"))) GTEST_SKIP() << "there is no shared/text/eval.txt";
  EXPECT_NEAR(eval_perplexity(gpu_engine("float32")), 39.1732, 0.005);
  EXPECT_NEAR(eval_perplexity(gpu_engine("bfloat16")), 39.1732, 0.1);
}

TEST(Baker, PerplexityNeedsAFullWindow) {
  try {
    perplexity(baker_engine(), "Three short words", 1024, 1);
    FAIL() << "a window is larger than the text";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
  }
}

TEST(Baker, TextThatStreamsIsTheTextThatIsDecoded) {
  Session session(baker_engine(), {.threads = 2});
  TextCodec codec = TextCodec::from_dir(baker_engine().directory());
  for (uint64_t seed : {1, 2, 3}) {
    SamplingParams params = tokens(60);
    params.temperature = 1.3f;  // unlikely tokens too: parts of characters
    params.seed = seed;
    std::string streamed;
    int pieces = 0;
    Generation g = session.generate(kPrompt, params, [&](const std::string& piece) {
      streamed += piece;
      ++pieces;
      return true;
    });
    EXPECT_EQ(streamed, g.text);
    EXPECT_GT(pieces, 20);
    std::vector<int32_t> all = codec.encode(kPrompt, true);
    all.insert(all.end(), g.ids.begin(), g.ids.end());
    EXPECT_EQ(codec.decode(all, true), kPrompt + g.text);
  }
}

TEST(Baker, ACallbackEndsTheAnswer) {
  Session session(baker_engine(), {.threads = 2});
  int pieces = 0;
  Generation g = session.generate(kPrompt, tokens(40), [&](const std::string&) { return ++pieces < 3; });
  EXPECT_EQ(pieces, 3);
  EXPECT_LT(g.ids.size(), 10u);
  EXPECT_EQ(session.generate(kPrompt, tokens(5)).ids.size(), 5u) << "the session goes on";
}

TEST(Baker, TheSameSeedGivesTheSameTokensAndAnotherSeedOthers) {
  std::vector<SamplingParams> all(5, tokens(30));
  all[0].temperature = 1;
  all[1].temperature = 0.8f, all[1].top_k = 20;
  all[2].temperature = 1, all[2].top_p = 0.9f;
  all[3].temperature = 1.2f, all[3].min_p = 0.05f;
  all[4].temperature = 1, all[4].repetition_penalty = 1.2f, all[4].presence_penalty = 0.5f,
  all[4].frequency_penalty = 0.3f;
  for (size_t i = 0; i < all.size(); ++i) {
    SCOPED_TRACE(i);
    SamplingParams params = all[i];
    params.seed = 7;
    std::vector<int32_t> first = answer(params).ids;
    EXPECT_EQ(answer(params).ids, first);
    params.seed = 8;
    EXPECT_NE(answer(params).ids, first);
  }
}

TEST(Baker, ASeedGivesTheSameTokensInAnyCompany) {
  SamplingParams params = tokens(20);
  params.temperature = 1;
  params.seed = 3;
  Session session(baker_engine(), {.threads = 2});
  std::vector<int32_t> alone = session.generate(kPrompt, params).ids;
  std::vector<Generation> together = session.generate_all({"It was a dark night", kPrompt, "The old man"}, params);
  EXPECT_EQ(together[1].ids, alone);
}

TEST(Baker, NarrowSamplingIsGreedy) {
  std::vector<int32_t> greedy = answer(tokens(20)).ids;
  SamplingParams params = tokens(20);
  params.temperature = 0.9f, params.top_k = 1;
  EXPECT_EQ(answer(params).ids, greedy);
  params.top_k = 0, params.top_p = 1e-6f;
  EXPECT_EQ(answer(params).ids, greedy);
  params.top_p = 1, params.min_p = 1;
  EXPECT_EQ(answer(params).ids, greedy);
  params.min_p = 0, params.temperature = 1e-3f;
  EXPECT_EQ(answer(params).ids, greedy);
}

TEST(Baker, PenaltiesMakeRepetitionRarer) {
  auto distinct = [](std::vector<int32_t> ids) {
    std::sort(ids.begin(), ids.end());
    return std::unique(ids.begin(), ids.end()) - ids.begin();
  };
  SamplingParams params = tokens(60);
  auto plain = distinct(answer(params).ids);
  params.frequency_penalty = 1.5f;
  EXPECT_GT(distinct(answer(params).ids), plain + 5);
  params.frequency_penalty = 0, params.repetition_penalty = 1.5f;
  EXPECT_GT(distinct(answer(params).ids), plain + 5);
}

TEST(Baker, StopStringsEndTheTextBeforeThem) {
  std::string text = answer(tokens(40)).text;
  SamplingParams params = tokens(40);
  for (const std::string& stop : {std::string(" fire"), std::string("looked"), text.substr(17, 9)}) {
    SCOPED_TRACE(stop);
    params.stop = {"never to be found", stop};
    Generation g = answer(params);
    size_t at = text.find(stop);
    EXPECT_EQ(g.text, text.substr(0, at));
    EXPECT_EQ(g.finish_reason, at == std::string::npos ? "length" : "stop");
  }
}

TEST(Baker, StopIdsAndMinimumOfTokens) {
  std::vector<int32_t> ids = answer(tokens(30)).ids;
  SamplingParams params = tokens(30);
  params.stop_ids = {ids[6]};
  auto first = std::find(ids.begin(), ids.end(), ids[6]) - ids.begin();
  Generation g = answer(params);
  EXPECT_EQ(g.finish_reason, "stop");
  EXPECT_EQ(g.ids.size(), static_cast<size_t>(first) + 1);
  params.min_tokens = 25;
  g = answer(params);
  EXPECT_GE(g.ids.size(), 25u);
  EXPECT_EQ(std::count(g.ids.begin(), g.ids.begin() + 24, ids[6]), 0) << "a stop id is not drawn before the minimum";
}

TEST(Baker, MaximumOfTokens) {
  for (int64_t count : {1, 2, 33}) {
    Generation g = answer(tokens(count));
    EXPECT_EQ(g.ids.size(), static_cast<size_t>(count));
    EXPECT_EQ(g.new_tokens, count);
    EXPECT_EQ(g.finish_reason, "length");
  }
}

TEST(Baker, LogProbabilitiesAreThoseThatPerplexityAddsUp) {
  SamplingParams params = tokens(24);
  params.logprobs = 0;
  Generation g = answer(params);
  ASSERT_EQ(g.logprobs.size(), g.ids.size());
  for (float value : g.logprobs) EXPECT_LE(value, 0);
  // The answer as a text of its own: perplexity over prompt and answer and over the prompt alone.
  std::string whole = kPrompt + g.text;
  TextCodec codec = TextCodec::from_dir(baker_engine().directory());
  auto count = [&](const std::string& text) { return static_cast<int64_t>(codec.encode(text, true).size()) - 1; };
  ASSERT_EQ(count(whole), count(kPrompt) + 24) << "this text is tokenized as it was made";
  auto sum = [&](const std::string& text) {
    Perplexity p = perplexity(baker_engine(), text, count(text), 2);
    return p.nll * static_cast<double>(p.tokens);
  };
  double added = std::accumulate(g.logprobs.begin(), g.logprobs.end(), 0.0);
  EXPECT_NEAR(-added, sum(whole) - sum(kPrompt), 1e-3);
  params.temperature = 0.5f, params.top_k = 1;  // of the model's own distribution, whatever shapes the draw
  std::vector<float> shaped = answer(params).logprobs;
  for (size_t i = 0; i < shaped.size(); ++i) EXPECT_NEAR(shaped[i], g.logprobs[i], 1e-4);
}

TEST(Baker, ParametersOutOfRangeAreNamed) {
  auto refused = [](auto change, const std::string& name) {
    SamplingParams params = tokens(4);
    change(params);
    try {
      answer(params);
      ADD_FAILURE() << name << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    }
  };
  refused([](SamplingParams& p) { p.temperature = -1; }, "temperature");
  refused([](SamplingParams& p) { p.top_p = 1.5f; }, "top_p");
  refused([](SamplingParams& p) { p.min_p = -0.1f; }, "min_p");
  refused([](SamplingParams& p) { p.top_k = -3; }, "top_k");
  refused([](SamplingParams& p) { p.repetition_penalty = 0; }, "repetition_penalty");
  refused([](SamplingParams& p) { p.max_tokens = -1; }, "max_tokens");
  refused([](SamplingParams& p) { p.min_tokens = 9; }, "min_tokens");
  refused([](SamplingParams& p) { p.temperature = NAN; }, "temperature");
}

TEST(Baker, AnEngineIsSavedAndLoadedElsewhere) {
  TemporaryDirectory directory;
  baker_engine().save(directory / "copy");
  Engine copy = Engine::from_dir(directory / "copy");
  EXPECT_EQ(copy.content_hash(), baker_engine().content_hash());
  Session session(copy);
  EXPECT_EQ(session.generate(kPrompt, tokens(10)).ids, answer(tokens(10)).ids);
}

}  // namespace
}  // namespace ingot
