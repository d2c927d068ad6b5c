// A Session serves one call after the other, whatever became of the calls before.
#include <gtest/gtest.h>

#include <stdexcept>
#include <type_traits>
#include <utility>

#include "e2e/models.h"
#include "ingot/generate.h"

namespace ingot {
namespace {

class SessionCalls : public testing::Test {
 protected:
  static SamplingParams tokens(int64_t count) {
    SamplingParams params;
    params.max_tokens = count;
    return params;
  }
  static std::string too_long() {
    std::string text;
    for (int i = 0; i < 5000; ++i) text += "whale ";
    return text;
  }

  // What the session answers now is what a fresh one answers.
  void expect_untouched() {
    Session fresh(baker_engine());
    const Generation wanted = fresh.generate("The whale", tokens(12)),
                     found = session_.generate("The whale", tokens(12));
    EXPECT_EQ(found.text, wanted.text);
    EXPECT_EQ(found.ids, wanted.ids);
    EXPECT_EQ(session_.generate_ids({5, 6}, tokens(12)).ids, fresh.generate_ids({5, 6}, tokens(12)).ids);
    const std::vector<Generation> all = session_.generate_all({"The whale", "Hello"}, tokens(12));
    EXPECT_EQ(all[0].ids, wanted.ids);
    EXPECT_EQ(all[1].ids, fresh.generate("Hello", tokens(12)).ids);
  }

  template <class F>
  void expect_usage_error(F&& call, const std::string& said) {
    try {
      call();
      ADD_FAILURE() << "accepted, where this was expected: " << said;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      EXPECT_NE(std::string(error.what()).find(said), std::string::npos) << error.what();
    }
  }

  Session session_{baker_engine()};
};

template <class... T>
constexpr bool kNoneCanBeEmpty = (!std::is_default_constructible_v<T> && ...);
static_assert(kNoneCanBeEmpty<Engine, PretrainedModel, TextCodec, Session, BuilderConfig, NetworkDefinition>);

TEST_F(SessionCalls, WhatIsMovedFromIsStillWhole) {
  Engine engine = baker_engine();
  // NOLINTBEGIN(performance-move-const-arg,bugprone-use-after-move): a move that copies is what is tested
  const Engine moved = std::move(engine);
  EXPECT_EQ(engine.directory(), moved.directory());
  const Session other = std::move(session_);
  // NOLINTEND(performance-move-const-arg,bugprone-use-after-move)
  expect_untouched();
}

TEST_F(SessionCalls, WithoutANumberOfTokensTheRoomIsTheLimit) {
  SamplingParams params;
  params.ignore_eos = true;
  auto prompt = [](int64_t length) { return std::vector<int32_t>(static_cast<size_t>(length), 5); };
  EXPECT_EQ(session_.generate_ids(prompt(3), params).new_tokens, 128);
  const int64_t most = baker_engine().max_seq_len();
  EXPECT_EQ(session_.generate_ids(prompt(most - 5), params).new_tokens, 5);
  expect_usage_error([&] { session_.generate_ids(prompt(most), params); }, "max_seq_len");
}

TEST_F(SessionCalls, AStopIdThatTheModelLacksIsRefused) {
  SamplingParams params = tokens(2);
  params.stop_ids = {999999};
  expect_usage_error([&] { session_.generate("The whale", params); }, "the stop id 999999");
  params.stop_ids = {-1};
  expect_usage_error([&] { session_.generate("The whale", params); }, "the stop id -1");
  expect_untouched();
}

TEST_F(SessionCalls, ABadPromptAmongOthersLeavesNothing) {
  expect_usage_error([&] { session_.generate_all({"Once upon a time", ""}, tokens(12)); }, "prompt 2");
  expect_untouched();
  expect_usage_error([&] { session_.generate_all({"Once upon a time", too_long()}, tokens(12)); }, "prompt 2");
  expect_untouched();
}

TEST_F(SessionCalls, ACallbackThatThrowsLeavesNothing) {
  auto refuse = [](const std::string&) -> bool { throw std::runtime_error("enough"); };
  EXPECT_THROW(session_.generate("Once upon a time", tokens(12), refuse), std::runtime_error);
  expect_untouched();
}

TEST_F(SessionCalls, ACallbackThatStopsLeavesNothing) {
  EXPECT_EQ(session_.generate("Once upon a time", tokens(12), [](const std::string&) { return false; }).finish_reason,
            "stop");
  expect_untouched();
}

TEST_F(SessionCalls, ACallbackMayNotGenerateWithTheSameSession) {
  auto nested = [&](const std::string&) { return !session_.generate("Hello", tokens(2)).text.empty(); };
  expect_usage_error([&] { session_.generate("The whale", tokens(12), nested); }, "a session of its own");
  expect_untouched();
  Session other(baker_engine());
  auto beside = [&](const std::string&) { return !other.generate("Hello", tokens(2)).text.empty(); };
  EXPECT_EQ(session_.generate("The whale", tokens(12), beside).ids, session_.generate("The whale", tokens(12)).ids);
}

}  // namespace
}  // namespace ingot
