// Sessions over an engine that chooses tokens itself: they run one step ahead, and nobody can tell.
#include <gtest/gtest.h>

#include <map>

#include "generate/logit_evaluator.h"
#include "generate/token_session.h"
#include "runtime/tiny_model.h"
#include "tensor/sample_columns.h"

namespace ingot {
namespace {

// The tiny model's plan with next_ids in front and sample behind.
Plan choosing(Plan plan) {
  auto input = [&](const char* name, const char* type) {
    plan.inputs.push_back({name, parse_type(type)});
    return BufferRef{BufferKind::kInput, static_cast<int64_t>(plan.inputs.size()) - 1, 0, plan.inputs.back().type};
  };
  BufferRef options = input("sample_options", "f32[outputs, 6]"), choices = input("sample_choices", "i32[outputs, 8]"),
            listed = input("sample_listed", "i32[listed, 2]");
  plan.states.push_back({"last_tokens", parse_type("i32[seats]"), ""});
  BufferRef last{BufferKind::kState, static_cast<int64_t>(plan.states.size()) - 1, 0, plan.states.back().type};
  plan.outputs.push_back({"chosen", parse_type("i32[outputs]")});
  plan.outputs.push_back({"likeliest", parse_type("i32[outputs, 20]")});
  plan.outputs.push_back({"logprobs", parse_type("f32[outputs, 21]")});
  BufferRef results[3];
  for (int64_t i : {0, 1, 2})
    results[i] = {BufferKind::kOutput, 1 + i, 0, plan.outputs[static_cast<size_t>(1 + i)].type};
  for (Program& program : plan.programs) {
    program.dims.push_back({"listed", 0, 0, 1 << 20});
    program.dims.push_back({"seats", 1, 1, TinyModel::kMaxSequences});
    auto room = [&](int64_t bytes) {
      uint64_t offset = program.arena_bytes;
      program.arena_bytes += static_cast<uint64_t>(bytes + 63) / 64 * 64;
      return offset;
    };
    BufferRef ids{BufferKind::kArena, 0, room(TinyModel::kMaxTokens * 4), parse_type("i32[tokens]")};
    Step next{.kernel = "cpu.next_ids", .buffers = {program.steps[0].buffers[0], last, ids}, .label = "next_ids"};
    program.steps[0].buffers[0] = ids;
    program.steps.insert(program.steps.begin(), next);
    Step sample{.kernel = "cpu.sample",
                .buffers = {{BufferKind::kOutput, 0, 0, plan.outputs[0].type},
                            options,
                            choices,
                            listed,
                            last,
                            results[0],
                            last,
                            results[1],
                            results[2]},
                .label = "sample"};
    sample.scratch_bytes = TinyModel::kMaxOutputs * TinyModel::kVocab * 4;
    sample.scratch_offset = room(static_cast<int64_t>(sample.scratch_bytes));
    program.steps.push_back(sample);
  }
  return plan;
}

struct Answer {
  std::vector<int32_t> ids;
  std::vector<float> logprobs;
  std::string finish_reason;
  bool operator==(const Answer&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Answer& answer) {
  for (int32_t id : answer.ids) out << id << ' ';
  return out << answer.finish_reason;
}

class RunAhead : public testing::Test {
 protected:
  std::unique_ptr<TokenSession> session(bool chooses, bool ahead, int64_t pages = 300, int64_t chunk = 0) {
    TokenSessionOptions options;
    options.runner = {.threads = 2, .kv_cache_memory = static_cast<uint64_t>(pages) * 512, .max_num_tokens = chunk};
    options.eos_ids = std::vector<int32_t>{};
    options.run_ahead = ahead;
    return std::make_unique<TokenSession>(chooses ? choosing_ : plain_, options);
  }
  static std::map<uint64_t, Answer> finish(TokenSession& session) {
    std::map<uint64_t, Answer> answers;
    while (!session.idle())
      for (const TokenEvent& event : session.step()) {
        Answer& answer = answers[event.request];
        EXPECT_EQ(answer.finish_reason, "") << "an answer goes on behind its end";
        answer.ids.push_back(event.token.id);
        answer.logprobs.push_back(event.token.logprob);
        for (const auto& [id, logprob] : event.token.likeliest) answer.logprobs.push_back(logprob);
        answer.finish_reason = event.finish_reason;
      }
    return answers;
  }
  static std::vector<int32_t> prompt(size_t count, int32_t seed) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < count; ++i) ids.push_back((seed * 13 + static_cast<int32_t>(i * i)) % 32);
    return ids;
  }
  static std::vector<SamplingParams> every_kind() {
    std::vector<SamplingParams> kinds(12);
    kinds[1].temperature = 1.2f;
    kinds[2].temperature = 1, kinds[2].top_k = 5;
    kinds[3].temperature = 2, kinds[3].top_p = 0.8f;
    kinds[4].temperature = 1.5f, kinds[4].min_p = 0.1f;
    kinds[5].repetition_penalty = 1.4f;
    kinds[6].presence_penalty = 2, kinds[6].frequency_penalty = 0.5f;
    kinds[7] = {.temperature = 1.3f,
                .top_k = 20,
                .top_p = 0.95f,
                .min_p = 0.02f,
                .repetition_penalty = 1.2f,
                .presence_penalty = 0.3f,
                .frequency_penalty = 0.2f};
    kinds[8].stop_ids = {3, 7, 11, 19}, kinds[8].min_tokens = 12;
    kinds[9].temperature = 1, kinds[9].logprobs = 3, kinds[9].stop_ids = {5, 9};
    kinds[10].logprobs = 20, kinds[10].presence_penalty = 1;
    kinds[11].temperature = 1, kinds[11].logprobs = 25;  // more than the engine tells
    for (size_t i = 0; i < kinds.size(); ++i) {
      kinds[i].seed = 7 + i;
      kinds[i].max_tokens = 30 - static_cast<int64_t>(i);
    }
    return kinds;
  }

  TinyModel model_;
  std::shared_ptr<const LoadedEngine> plain_ = model_.engine(), choosing_ = model_.engine(choosing(model_.plan()));
};

TEST_F(RunAhead, GivesTheTokensThatTheHostWouldChoose) {
  // Wide memory; memory in which requests are preempted again and again; and prompts in chunks of three tokens.
  for (auto [pages, chunk] : {std::pair<int64_t, int64_t>{300, 0}, {36, 0}, {300, 3}, {36, 7}}) {
    std::vector<std::map<uint64_t, Answer>> told;
    for (auto [chooses, ahead] : {std::pair{false, false}, {true, false}, {true, true}}) {
      auto many = session(chooses, ahead, pages, chunk);
      EXPECT_EQ(many->runner().chooses_tokens(), chooses);
      int32_t seed = 0;
      for (const SamplingParams& params : every_kind()) {
        ++seed;
        many->submit({prompt(static_cast<size_t>(1 + seed * 3), seed), params});
      }
      told.push_back(finish(*many));
      EXPECT_EQ(many->runner().pool().used_bytes(), 0u);
      EXPECT_TRUE(many->step().empty());
      if (pages == 36) {
        EXPECT_GT(many->scheduler().preemptions(), 0);
      }
    }
    ASSERT_EQ(told[0].size(), 12u);
    EXPECT_EQ(told[0], told[1]) << pages << " pages, chunks of " << chunk;
    EXPECT_EQ(told[0], told[2]) << pages << " pages, chunks of " << chunk;
  }
}

TEST_F(RunAhead, StartsNothingBehindMaxTokens) {
  auto one = session(true, true);
  uint64_t id = one->submit({prompt(9, 1), {.max_tokens = 3}});
  int64_t steps = 0;
  std::vector<int32_t> ids;
  one->runner().context().observe([&](const ObservedStep& step) { steps += step.step.label == "sample"; });
  while (!one->idle())
    for (const TokenEvent& event : one->step()) ids.push_back(event.token.id);
  EXPECT_EQ(ids, model_.continuation(prompt(9, 1), 3));
  EXPECT_EQ(steps, 3);
  // One more step is under way when a stop shows.
  id = one->submit({prompt(9, 1), {.stop_ids = {ids[1]}, .max_tokens = 20}});
  Answer answer = finish(*one).at(id);
  EXPECT_EQ(answer.finish_reason, "stop");
  EXPECT_EQ(steps, 3 + static_cast<int64_t>(answer.ids.size()) + 1);
}

TEST_F(RunAhead, ForgetsWhatIsUnderWayForACancelledRequest) {
  auto many = session(true, true, 24);
  std::vector<uint64_t> ids;
  for (int32_t i = 0; i < 5; ++i) ids.push_back(many->submit({prompt(6, i), {.max_tokens = 10}}));
  std::map<uint64_t, std::vector<int32_t>> told;
  auto step = [&] {
    for (const TokenEvent& event : many->step()) told[event.request].push_back(event.token.id);
  };
  step();
  many->cancel(ids[0]);
  step();
  many->cancel(ids[3]);
  many->cancel(999);
  ids.push_back(many->submit({prompt(6, 0), {.max_tokens = 10}}));
  while (!many->idle()) step();
  EXPECT_EQ(many->runner().pool().used_bytes(), 0u);
  for (size_t i : {1, 2, 4, 5})
    EXPECT_EQ(told[ids[i]], model_.continuation(prompt(6, static_cast<int32_t>(i % 5)), 10)) << i;
  EXPECT_LE(told[ids[0]].size(), 1u);
  // Cancelled with a step under way, idle, and used again.
  uint64_t id = many->submit({prompt(6, 2), {.max_tokens = 10}});
  many->step();
  many->cancel(id);
  EXPECT_TRUE(many->idle());
  id = many->submit({prompt(6, 4), {.max_tokens = 10}});
  EXPECT_EQ(finish(*many).at(id).ids, model_.continuation(prompt(6, 4), 10));
}

TEST_F(RunAhead, LogitsComeWithoutChoosing) {
  std::vector<int32_t> ids = prompt(40, 5);
  EXPECT_EQ(evaluate_logits(choosing_, ids, {.threads = 2}, 7), evaluate_logits(plain_, ids, {.threads = 2}, 7));
}

}  // namespace
}  // namespace ingot
