#include "generate/token_session.h"

#include <gtest/gtest.h>

#include <map>

#include "base/error.h"
#include "generate/logit_evaluator.h"
#include "runtime/tiny_model.h"

namespace ingot {
namespace {

struct Answer {
  std::vector<int32_t> ids;
  std::string finish_reason;
};

std::map<uint64_t, Answer> finish(TokenSession& session) {
  std::map<uint64_t, Answer> answers;
  while (!session.idle())
    for (const TokenEvent& event : session.step()) {
      Answer& answer = answers[event.request];
      EXPECT_EQ(answer.finish_reason, "");
      answer.ids.push_back(event.token.id);
      answer.finish_reason = event.finish_reason;
    }
  return answers;
}

class TokenSessionTest : public testing::Test {
 protected:
  // Enough for so many pages of both groups.
  TokenSession session(int64_t pages = 300, StepRunnerOptions runner = {}, std::vector<int32_t> eos = {}) {
    runner.threads = 2;
    runner.kv_cache_memory = static_cast<uint64_t>(pages) * 512;
    return TokenSession(engine_, {runner, std::move(eos)});
  }

  static SamplingParams length(int64_t tokens) { return {.max_tokens = tokens}; }

  std::vector<int32_t> prompt(size_t count, int32_t seed) const {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < count; ++i) ids.push_back((seed * 13 + static_cast<int32_t>(i * i)) % 32);
    return ids;
  }

  TinyModel model_;
  std::shared_ptr<const LoadedEngine> engine_ = model_.engine();
};

TEST_F(TokenSessionTest, ContinuesAsTheModelDoes) {
  TokenSession one = session();
  uint64_t id = one.submit({prompt(9, 1), length(20)});
  Answer answer = finish(one).at(id);
  EXPECT_EQ(answer.ids, model_.continuation(prompt(9, 1), 20));
  EXPECT_EQ(answer.finish_reason, "length");
  EXPECT_TRUE(one.step().empty());
}

TEST_F(TokenSessionTest, AnswersDoNotDependOnCompany) {
  // Wide memory, then memory in which requests are preempted again and again; and chunks of three tokens.
  for (auto [pages, chunk] : {std::pair<int64_t, int64_t>{300, 0}, {36, 0}, {300, 3}, {36, 7}}) {
    TokenSession many = session(pages, {.max_num_tokens = chunk});
    std::map<uint64_t, std::vector<int32_t>> expected;
    for (int32_t i = 0; i < 12; ++i) {
      auto ids = prompt(static_cast<size_t>(1 + i * 3), i);
      expected[many.submit({ids, length(40 - i)})] = model_.continuation(ids, static_cast<size_t>(40 - i));
    }
    auto answers = finish(many);
    ASSERT_EQ(answers.size(), expected.size());
    for (const auto& [id, ids] : expected) EXPECT_EQ(answers[id].ids, ids) << "request " << id << ", pages " << pages;
    if (pages == 36) {
      EXPECT_GT(many.scheduler().preemptions(), 0);
    }
  }
}

TEST_F(TokenSessionTest, SampledAnswersDoNotDependOnCompany) {
  SamplingParams params{.temperature = 1.5f, .top_k = 20, .top_p = 0.95f, .seed = 11, .max_tokens = 25};
  TokenSession alone = session();
  uint64_t id = alone.submit({prompt(7, 3), params});
  std::vector<int32_t> expected = finish(alone).at(id).ids;
  TokenSession many = session(40);
  std::vector<uint64_t> same;
  for (int32_t i = 0; i < 8; ++i) {
    if (i % 3 == 1) same.push_back(many.submit({prompt(7, 3), params}));
    many.submit({prompt(11, i), length(9 + i)});
  }
  auto answers = finish(many);
  for (uint64_t request : same) EXPECT_EQ(answers[request].ids, expected);
  params.seed = 12;
  id = alone.submit({prompt(7, 3), params});
  EXPECT_NE(finish(alone).at(id).ids, expected);
}

TEST_F(TokenSessionTest, StopsAtEosAndStopIds) {
  auto expected = model_.continuation(prompt(9, 1), 20);
  int32_t eos = expected[4];
  auto until = [&](int32_t stop, size_t from) {
    auto end = std::find(expected.begin() + static_cast<std::ptrdiff_t>(from), expected.end(), stop);
    return std::vector<int32_t>(expected.begin(), end == expected.end() ? end : end + 1);
  };
  TokenSession with_eos = session(300, {}, {31, eos});
  uint64_t id = with_eos.submit({prompt(9, 1), length(20)});
  Answer answer = finish(with_eos).at(id);
  EXPECT_EQ(answer.ids, until(eos, 0));
  EXPECT_EQ(answer.finish_reason, "stop");
  // ignore_eos leaves stop ids alone.
  id = with_eos.submit({prompt(9, 1), {.ignore_eos = true, .max_tokens = 20}});
  EXPECT_EQ(finish(with_eos).at(id).ids, expected);
  id = with_eos.submit({prompt(9, 1), {.stop_ids = {eos}, .ignore_eos = true, .max_tokens = 20}});
  EXPECT_EQ(finish(with_eos).at(id).ids, until(eos, 0));
  // Before min_tokens the stop is not drawn at all.
  id = with_eos.submit({prompt(9, 1), {.min_tokens = 10, .max_tokens = 20}});
  answer = finish(with_eos).at(id);
  EXPECT_GE(answer.ids.size(), 10u);
  for (size_t i = 0; i < 10; ++i) EXPECT_NE(answer.ids[i], eos);
}

TEST_F(TokenSessionTest, CancelsRunningAndWaitingRequests) {
  TokenSession many = session(20);
  std::vector<uint64_t> ids;
  for (int32_t i = 0; i < 6; ++i) ids.push_back(many.submit({prompt(8, i), length(10)}));
  many.step();
  many.cancel(ids[0]);
  many.cancel(ids[5]);
  many.cancel(999);
  auto answers = finish(many);
  EXPECT_FALSE(answers.contains(ids[0]));
  EXPECT_FALSE(answers.contains(ids[5]));
  EXPECT_EQ(answers[ids[3]].ids, model_.continuation(prompt(8, 3), 10));
  EXPECT_EQ(many.runner().pool().used_bytes(), 0u);
}

TEST_F(TokenSessionTest, RefusesWhatItCannotServe) {
  TokenSession small = session(8, {.max_seq_len = 40});
  auto refused = [&](TokenRequest request, ErrorCode code, const char* message) {
    try {
      small.submit(std::move(request));
      ADD_FAILURE() << message;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code);
      EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
    }
  };
  refused({{}, {}}, ErrorCode::kUsage, "the prompt is empty");
  refused({{1, 32}, {}}, ErrorCode::kUsage, "the id 32; the model knows 0 to 31");
  refused({{1, -1}, {}}, ErrorCode::kUsage, "-1");
  refused({prompt(30, 1), length(11)}, ErrorCode::kUsage, "max_seq_len of 40");
  refused({prompt(30, 1), length(10)}, ErrorCode::kDoesNotFit, "which holds");
  refused({prompt(3, 1), {.top_p = 7}}, ErrorCode::kUsage, "top_p");
  EXPECT_TRUE(small.idle());
  int64_t most = small.max_new_tokens(5);
  uint64_t id = small.submit({prompt(5, 1), length(most)});
  refused({prompt(5, 1), length(most + 1)}, ErrorCode::kDoesNotFit, "which holds");
  EXPECT_EQ(finish(small).at(id).ids, model_.continuation(prompt(5, 1), static_cast<size_t>(most)));
}

TEST_F(TokenSessionTest, RefusesImpossibleThreads) {
  for (int threads : {-1, 1025, 20000}) {
    try {
      TokenSession one(engine_, {{.threads = threads}, {{}}});
      ADD_FAILURE() << threads;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      EXPECT_NE(std::string(error.what()).find("needed 0"), std::string::npos) << error.what();
    }
  }
}

TEST_F(TokenSessionTest, ReadsLimitsAndEosFromTheDirectory) {
  Path folder = std::filesystem::temp_directory_path() / ("ingot_session_" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  OnExit remove([&] { std::filesystem::remove_all(folder); });
  model_.write(folder / "rank0.engine", model_.plan());
  write_text_file(folder / "config.json",
                  R"({"build_config": {"max_seq_len": 33, "max_input_len": 20, "threads": 1},
                      "pretrained_config": {"eos_token_id": 9}})");
  EXPECT_EQ(read_eos_ids(*LoadedEngine::load(folder)), std::vector<int32_t>{9});
  write_text_file(folder / "generation_config.json", R"({"eos_token_id": [3, 4]})");
  TokenSession session(LoadedEngine::load(folder));
  EXPECT_EQ(session.eos_ids(), (std::vector<int32_t>{3, 4}));
  EXPECT_EQ(session.limits().max_seq_len, 33);
  EXPECT_EQ(session.runner().context().threads().size(), 1);
  EXPECT_EQ(session.max_new_tokens(13), 20);
  EXPECT_EQ(session.max_new_tokens(21), 0);
  EXPECT_THROW(session.submit({prompt(21, 1), length(2)}), Error);
  write_text_file(folder / "generation_config.json", R"({"eos_token_id": "x"})");
  EXPECT_THROW(TokenSession(LoadedEngine::load(folder)), Error);
}

TEST_F(TokenSessionTest, RefusesAnEngineThatIsNoLanguageModel) {
  Plan plan = model_.plan();
  plan.inputs[0].name = "pixels";
  EXPECT_THROW(TokenSession{model_.engine(plan)}, Error);
  plan = model_.plan();
  plan.outputs[0].name = "scores";
  EXPECT_THROW(TokenSession{model_.engine(plan)}, Error);
}

TEST_F(TokenSessionTest, RunsEnginesThatNeedAnOutputRow) {
  Plan plan = model_.plan();
  for (Program& program : plan.programs) program.dims[2].min = 1;
  TokenSession chunked(model_.engine(plan), {{.threads = 1, .kv_cache_memory = 1 << 20, .max_num_tokens = 4}, {{}}});
  uint64_t id = chunked.submit({prompt(19, 2), length(6)});
  EXPECT_EQ(finish(chunked).at(id).ids, model_.continuation(prompt(19, 2), 6));
}

TEST_F(TokenSessionTest, ReportsLogProbabilities) {
  TokenSession one = session();
  uint64_t id = one.submit({prompt(4, 2), {.logprobs = 2, .max_tokens = 1}});
  auto logits = model_.logits(prompt(4, 2)).back();
  double sum = 0;
  for (double logit : logits) sum += std::exp(logit);
  auto events = one.step();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].request, id);
  EXPECT_NEAR(events[0].token.logprob, *std::max_element(logits.begin(), logits.end()) - std::log(sum), 1e-3);
  EXPECT_EQ(events[0].token.likeliest.size(), 2u);
}

TEST_F(TokenSessionTest, EvaluatesLogitsWhateverTheChunks) {
  std::vector<int32_t> ids = prompt(61, 5);
  auto expected = model_.logits(ids);
  for (int64_t chunk : {0, 1, 3, 16}) {
    auto logits = evaluate_logits(engine_, ids, {.threads = 2, .kv_cache_memory = 1 << 20}, chunk);
    for (size_t i = 0; i < ids.size(); ++i)
      for (size_t v = 0; v < TinyModel::kVocab; ++v)
        ASSERT_NEAR(logits[i * TinyModel::kVocab + v], expected[i][v], 2e-3) << "chunk " << chunk << " position " << i;
  }
}

TEST_F(TokenSessionTest, EvaluatesSequencesSideBySide) {
  // Memory for little more than the longest: some run later, some again.
  LogitEvaluator evaluator(engine_, {.threads = 2, .kv_cache_memory = 40 * 512});
  std::vector<EvaluatedSequence> sequences;
  std::vector<std::vector<std::vector<double>>> expected;
  for (int32_t i = 0; i < 5; ++i) {
    sequences.push_back({prompt(static_cast<size_t>(10 + 9 * i), i), i == 2 ? 1 : 0});
    expected.push_back(model_.logits(sequences.back().ids));
  }
  for (int repeat = 0; repeat < 2; ++repeat) {
    std::vector<int64_t> told(sequences.size(), 0);
    evaluator.run(sequences, [&](size_t sequence, int64_t position, std::span<float> logits) {
      ASSERT_EQ(position, told[sequence]++);
      for (size_t v = 0; v < TinyModel::kVocab; ++v)
        ASSERT_NEAR(logits[v], expected[sequence][static_cast<size_t>(position)][v], 2e-3);
    });
    for (size_t i = 0; i < sequences.size(); ++i) EXPECT_EQ(told[i], static_cast<int64_t>(sequences[i].ids.size()));
    EXPECT_EQ(evaluator.runner().pool().used_bytes(), 0u);
  }
  EXPECT_THROW(evaluator.run({{{99}, 0}}, {}), Error);
}

}  // namespace
}  // namespace ingot
