#include "generate/scheduler.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "base/error.h"

namespace ingot {
namespace {

Plan plan_with(const std::vector<CacheGroup>& groups) {
  Plan plan;
  plan.groups = groups;
  for (const CacheGroup& group : groups)
    plan.states.push_back({group.name + ".k",
                           TensorType{DType::kU8, {Dim("pool_pages." + group.name), 1, group.page_size, 16}, ""},
                           group.name});
  return plan;
}

int32_t next_token(const std::vector<int32_t>& tokens) {
  uint32_t hash = 17;
  for (int32_t token : tokens) hash = hash * 31 + static_cast<uint32_t>(token) + 7;
  return static_cast<int32_t>(hash >> 8 & 0xffff);
}

std::vector<int32_t> answer_to(std::vector<int32_t> tokens, int64_t count) {
  std::vector<int32_t> answer;
  for (; count > 0; --count) {
    answer.push_back(next_token(tokens));
    tokens.push_back(answer.back());
  }
  return answer;
}

// Plays the model: keeps what every slot holds, reads it back through the page lists, and derives tokens from what it
// reads. Every promise of a step is checked on the way.
class Simulation {
 public:
  Simulation(std::vector<CacheGroup> groups, uint64_t budget, ScheduleLimits limits)
      : groups_(groups),
        limits_(limits),
        pool_(plan_with(groups), {.budget_bytes = budget}),
        scheduler_(groups, pool_, limits),
        memory_(groups.size()) {}

  Scheduler& scheduler() { return scheduler_; }
  StatePool& pool() { return pool_; }

  void add(uint64_t id, std::vector<int32_t> prompt, int64_t count, int64_t max_chunk = 0) {
    scheduler_.add({.id = id, .tokens = prompt, .max_new_tokens = count, .max_chunk = max_chunk});
    requests_[id] = {prompt, {}, count};
    arrivals_.push_back(id);
  }

  void remove(uint64_t id) {
    scheduler_.remove(id);
    requests_.erase(id);
    std::erase(arrivals_, id);
  }

  bool live(uint64_t id) const { return requests_.contains(id); }
  bool was_answered(uint64_t id) const { return answered_.contains(id); }

  void step() {
    StepBatch batch;
    ASSERT_TRUE(scheduler_.next(batch)) << "no progress";
    check_sizes(batch);
    for (size_t g = 0; g < groups_.size(); ++g) write(batch, g);
    check_owners(batch);
    for (size_t s = 0; s < batch.requests.size(); ++s) check_sequence(batch, s);
    if (testing::Test::HasFatalFailure()) return;
    for (const StepBatch::Output& output : batch.outputs) answer(output);
  }

  void run() {
    while (!scheduler_.idle()) {
      step();
      if (testing::Test::HasFatalFailure()) return;
    }
    EXPECT_EQ(pool_.used_bytes(), 0u);
    EXPECT_TRUE(requests_.empty());
  }

  size_t largest_batch = 0;

 private:
  struct Request {
    std::vector<int32_t> prompt, answer;
    int64_t count = 0;
    std::vector<int32_t> tokens() const {
      auto all = prompt;
      all.insert(all.end(), answer.begin(), answer.end());
      return all;
    }
  };
  struct Cell {
    uint64_t request = 0;
    int32_t position = -1, id = -1;
    bool operator==(const Cell&) const = default;
  };

  void check_sizes(const StepBatch& batch) {
    auto tokens = static_cast<size_t>(batch.tokens()), sequences = static_cast<size_t>(batch.sequences());
    largest_batch = std::max(largest_batch, sequences);
    ASSERT_LE(batch.tokens(), limits_.max_num_tokens);
    ASSERT_LE(batch.sequences(), limits_.max_batch_size);
    ASSERT_LE(static_cast<int64_t>(batch.outputs.size()), limits_.max_outputs);
    ASSERT_EQ(batch.positions.size(), tokens);
    ASSERT_EQ(batch.query_starts.size(), sequences + 1);
    ASSERT_EQ(batch.query_starts.back(), batch.tokens());
    ASSERT_EQ(batch.requests.size(), sequences);
    ASSERT_EQ(batch.output_rows.size(), batch.outputs.size());
    for (const StepBatch::Group& group : batch.groups) {
      ASSERT_EQ(group.slots.size(), tokens);
      ASSERT_EQ(group.page_starts.size(), sequences + 1);
      ASSERT_EQ(group.context_starts.size(), sequences);
      ASSERT_EQ(static_cast<size_t>(group.page_starts.back()), group.page_list.size());
    }
    // Decodes lead: a sequence in its answer has no chunk of a prompt before it.
    bool chunk = false;
    for (size_t s = 0; s < sequences; ++s) {
      auto queries = batch.query_starts[s + 1] - batch.query_starts[s];
      ASSERT_GT(queries, 0);
      const Request& request = requests_.at(batch.requests[s]);
      bool decode = queries == 1 && batch.context_lengths[s] == static_cast<int32_t>(request.tokens().size());
      if (decode && !request.answer.empty()) {
        ASSERT_FALSE(chunk);
      }
      chunk = chunk || queries > 1;
    }
    // Admission in the order of arrival: whoever runs has no earlier request that has never run.
    for (uint64_t id : batch.requests) started_.insert(id);
    bool unstarted = false;
    for (uint64_t id : arrivals_) {
      unstarted = unstarted || !started_.contains(id);
      ASSERT_FALSE(unstarted && started_.contains(id)) << "request " << id << " overtook another";
    }
  }

  void write(const StepBatch& batch, size_t g) {
    std::set<int32_t> written;
    for (size_t s = 0; s < batch.requests.size(); ++s)
      for (auto i = static_cast<size_t>(batch.query_starts[s]); i < static_cast<size_t>(batch.query_starts[s + 1]);
           ++i) {
        int32_t slot = batch.groups[g].slots[i];
        ASSERT_TRUE(written.insert(slot).second) << "two tokens in one slot";
        ASSERT_GE(slot, 0);
        ASSERT_LT(slot / groups_[g].page_size, pool_.capacity(g));
        memory_[g][slot] = {batch.requests[s], batch.positions[i], batch.ids[i]};
      }
  }

  void check_owners(const StepBatch&) {
    for (size_t g = 0; g < groups_.size(); ++g) {
      std::set<int32_t> pages;
      int64_t held = 0;
      for (const auto& [id, request] : requests_)
        for (int32_t page : scheduler_.pages(id, g)) {
          ASSERT_TRUE(pages.insert(page).second) << "a page with two owners";
          ASSERT_EQ(pool_.references(g, page), 1);
          ++held;
        }
      ASSERT_EQ(pool_.statistics(g).used, held);
    }
  }

  // Every position that a query of the sequence sees is found where the page list says.
  void check_sequence(const StepBatch& batch, size_t s) {
    uint64_t id = batch.requests[s];
    std::vector<int32_t> tokens = requests_.at(id).tokens();
    int64_t context = batch.context_lengths[s], queries = batch.query_starts[s + 1] - batch.query_starts[s];
    for (int64_t q = 0; q < queries; ++q) {
      auto i = static_cast<size_t>(batch.query_starts[s] + q);
      ASSERT_EQ(batch.positions[i], context - queries + q);
      ASSERT_EQ(batch.ids[i], tokens[static_cast<size_t>(context - queries + q)]);
    }
    for (size_t g = 0; g < groups_.size(); ++g) {
      const StepBatch::Group& group = batch.groups[g];
      int64_t first = 0, page_size = groups_[g].page_size, start = group.context_starts[s];
      if (groups_[g].window > 0) first = std::max<int64_t>(0, context - queries - groups_[g].window + 1);
      ASSERT_LE(start, first);
      ASSERT_EQ(start % page_size, 0);
      // Nothing is kept that nobody sees.
      ASSERT_GT(start + page_size, first);
      int64_t pages = group.page_starts[s + 1] - group.page_starts[s];
      ASSERT_EQ(pages, (context - start + page_size - 1) / page_size);
      for (int64_t p = first; p < context; ++p) {
        int64_t page = group.page_list[static_cast<size_t>(group.page_starts[s] + (p - start) / page_size)];
        Cell expected{id, static_cast<int32_t>(p), tokens[static_cast<size_t>(p)]};
        ASSERT_EQ(memory_[g][static_cast<int32_t>(page * page_size + p % page_size)], expected);
      }
    }
  }

  void answer(const StepBatch::Output& output) {
    Request& request = requests_.at(output.request);
    auto tokens = request.tokens();
    ASSERT_EQ(output.position + 1, static_cast<int64_t>(tokens.size()));
    request.answer.push_back(next_token(tokens));
    if (static_cast<int64_t>(request.answer.size()) < request.count) {
      scheduler_.append(output.request, request.answer.back());
      return;
    }
    ASSERT_EQ(request.answer, answer_to(request.prompt, request.count));
    answered_.insert(output.request);
    remove(output.request);
  }

  std::vector<CacheGroup> groups_;
  ScheduleLimits limits_;
  StatePool pool_;
  Scheduler scheduler_;
  std::vector<std::map<int32_t, Cell>> memory_;
  std::map<uint64_t, Request> requests_;
  std::vector<uint64_t> arrivals_;
  std::set<uint64_t> started_, answered_;
};

std::vector<int32_t> prompt_of(size_t count, int32_t seed = 1) {
  std::vector<int32_t> prompt;
  for (size_t i = 0; i < count; ++i) prompt.push_back(seed * 100 + static_cast<int32_t>(i));
  return prompt;
}

const CacheGroup kFull{.name = "full", .page_size = 4};
const CacheGroup kSliding{.name = "sliding", .page_size = 4, .window = 6};

TEST(SchedulerTest, CutsAPromptIntoChunksAndThenDecodes) {
  Simulation simulation({kFull}, 1 << 20,
                        {.max_batch_size = 4, .max_num_tokens = 8, .max_outputs = 4, .max_seq_len = 64});
  simulation.scheduler().add({.id = 1, .tokens = prompt_of(18), .max_new_tokens = 3});
  StepBatch batch;
  for (int64_t context : {8, 16, 18}) {
    ASSERT_TRUE(simulation.scheduler().next(batch));
    EXPECT_EQ(batch.context_lengths, std::vector<int32_t>{static_cast<int32_t>(context)});
    EXPECT_EQ(batch.outputs.size(), context == 18 ? 1u : 0u);
  }
  EXPECT_FALSE(simulation.scheduler().next(batch));  // the token is awaited
  simulation.scheduler().append(1, 5);
  ASSERT_TRUE(simulation.scheduler().next(batch));
  EXPECT_EQ(batch.ids, std::vector<int32_t>{5});
  EXPECT_EQ(batch.output_rows, std::vector<int32_t>{0});
  simulation.scheduler().remove(1);
  simulation.scheduler().remove(1);
  EXPECT_TRUE(simulation.scheduler().idle());
  EXPECT_EQ(simulation.pool().used_bytes(), 0u);
}

TEST(SchedulerTest, MixesDecodesWithChunks) {
  Simulation simulation({kFull}, 1 << 20,
                        {.max_batch_size = 4, .max_num_tokens = 8, .max_outputs = 4, .max_seq_len = 64});
  simulation.scheduler().add({.id = 1, .tokens = prompt_of(5, 1), .max_new_tokens = 9});
  simulation.scheduler().add({.id = 2, .tokens = prompt_of(9, 2), .max_new_tokens = 9});
  StepBatch batch;
  ASSERT_TRUE(simulation.scheduler().next(batch));
  EXPECT_EQ(batch.context_lengths, (std::vector<int32_t>{5, 3}));
  simulation.scheduler().append(1, 77);
  ASSERT_TRUE(simulation.scheduler().next(batch));
  EXPECT_EQ(batch.context_lengths, (std::vector<int32_t>{6, 9}));
  EXPECT_EQ(batch.query_starts, (std::vector<int32_t>{0, 1, 7}));
  EXPECT_EQ(batch.output_rows, (std::vector<int32_t>{0, 6}));
}

TEST(SchedulerTest, GivesLogitsOfEveryPositionWhenAsked) {
  Simulation simulation({kFull}, 1 << 20,
                        {.max_batch_size = 4, .max_num_tokens = 8, .max_outputs = 5, .max_seq_len = 64});
  simulation.scheduler().add({.id = 1, .tokens = prompt_of(7), .max_new_tokens = 0, .every_position = true});
  StepBatch batch;
  ASSERT_TRUE(simulation.scheduler().next(batch));
  EXPECT_EQ(batch.output_rows, (std::vector<int32_t>{0, 1, 2, 3, 4}));
  ASSERT_TRUE(simulation.scheduler().next(batch));
  EXPECT_EQ(batch.outputs, (std::vector<StepBatch::Output>{{1, 5}, {1, 6}}));
}

void expect_refusal(Scheduler& scheduler, ScheduledRequest request, ErrorCode code, const char* message) {
  try {
    scheduler.add(std::move(request));
    FAIL() << "accepted; needed: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
  }
}

TEST(SchedulerTest, RefusesWhatCanNeverRun) {
  // 5 pages of 64 bytes: 20 positions.
  Simulation simulation({kFull}, 320, {.max_batch_size = 4, .max_num_tokens = 8, .max_outputs = 4, .max_seq_len = 32});
  Scheduler& scheduler = simulation.scheduler();
  expect_refusal(scheduler, {.id = 1, .tokens = {}, .max_new_tokens = 1}, ErrorCode::kUsage, "the prompt is empty");
  expect_refusal(scheduler, {.id = 1, .tokens = prompt_of(30), .max_new_tokens = 3}, ErrorCode::kUsage,
                 "exceed the engine's max_seq_len of 32");
  expect_refusal(scheduler, {.id = 1, .tokens = prompt_of(3), .max_new_tokens = INT64_MAX}, ErrorCode::kUsage, "32");
  expect_refusal(scheduler, {.id = 1, .tokens = prompt_of(19), .max_new_tokens = 3}, ErrorCode::kDoesNotFit,
                 "which holds 20 tokens");
  EXPECT_TRUE(scheduler.idle());
  simulation.add(1, prompt_of(19), 2);
  simulation.run();
  EXPECT_EQ(scheduler.longest_sequence(32), 20);
  EXPECT_EQ(scheduler.longest_sequence(7), 7);
}

TEST(SchedulerTest, LetsAWindowForget) {
  // The window of 6 needs at most 3 pages of 4, so a long sequence runs in 3 pages.
  Simulation simulation({kSliding}, 3 * 64,
                        {.max_batch_size = 1, .max_num_tokens = 64, .max_outputs = 4, .max_seq_len = 1000});
  EXPECT_EQ(simulation.scheduler().longest_sequence(1000), 1000);
  simulation.add(1, prompt_of(100), 50);
  simulation.run();
  EXPECT_EQ(simulation.pool().statistics(0).peak_used, 3);
}

TEST(SchedulerTest, PreemptsTheNewestAndResumesIt) {
  // 8 pages of 4 positions; two requests grow to 20 positions each.
  Simulation simulation({kFull}, 8 * 64,
                        {.max_batch_size = 4, .max_num_tokens = 32, .max_outputs = 4, .max_seq_len = 32});
  simulation.add(1, prompt_of(6, 1), 15);
  simulation.add(2, prompt_of(6, 2), 15);
  simulation.run();
  EXPECT_GE(simulation.scheduler().preemptions(), 1);
  EXPECT_EQ(simulation.largest_batch, 2u);
}

TEST(SchedulerTest, KeepsItsPromisesUnderRandomLoad) {
  int64_t preemptions = 0;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    auto draw = [&](int64_t low, int64_t high) {
      return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1));
    };
    std::vector<CacheGroup> groups;
    if (seed % 3 != 1) groups.push_back({.name = "full", .page_size = draw(1, 8)});
    if (seed % 3 != 0) groups.push_back({.name = "sliding", .page_size = draw(1, 8), .window = draw(1, 12)});
    ScheduleLimits limits{
        .max_batch_size = draw(1, 6), .max_num_tokens = draw(1, 24), .max_outputs = draw(1, 6), .max_seq_len = 60};
    Simulation simulation(groups, static_cast<uint64_t>(draw(200, 3000)), limits);
    uint64_t next_id = 1;
    int refused = 0;
    for (int round = 0; round < 60; ++round) {
      if (draw(0, 2) == 0) {
        int64_t prompt = draw(1, 40), count = draw(1, 20);
        try {
          simulation.add(next_id, prompt_of(static_cast<size_t>(prompt), static_cast<int32_t>(next_id)), count,
                         draw(0, 1) * draw(1, 9));
          ++next_id;
        } catch (const Error&) {
          ++refused;
        }
      }
      if (next_id > 1 && draw(0, 19) == 0)
        simulation.remove(static_cast<uint64_t>(draw(1, static_cast<int64_t>(next_id) - 1)));
      if (!simulation.scheduler().idle()) simulation.step();
      if (HasFatalFailure()) return;
    }
    simulation.run();
    if (HasFatalFailure()) return;
    preemptions += simulation.scheduler().preemptions();
    EXPECT_LT(refused, 60);
  }
  EXPECT_GT(preemptions, 40);
}

TEST(Scheduler, PlansWithPromisedTokens) {
  std::vector<CacheGroup> groups = {{.name = "full", .page_size = 4}};
  StatePool pool(plan_with(groups), {.budget_bytes = 64 * 64});
  Scheduler scheduler(groups, pool, {.max_batch_size = 2, .max_num_tokens = 16, .max_outputs = 4, .max_seq_len = 64});
  for (uint64_t id : {1, 2, 3})
    scheduler.add({.id = id, .tokens = {static_cast<int32_t>(10 * id), 5}, .max_new_tokens = 9});
  StepBatch batch;
  ASSERT_TRUE(scheduler.next(batch));
  ASSERT_EQ(batch.requests, (std::vector<uint64_t>{1, 2}));
  int32_t first = scheduler.seat(1), second = scheduler.seat(2);
  EXPECT_EQ(std::set<int32_t>({first, second}), (std::set<int32_t>{0, 1}));
  scheduler.promise(1);
  scheduler.promise(2);
  // The tokens are under way: they are read on the device.
  ASSERT_TRUE(scheduler.next(batch));
  EXPECT_EQ(batch.ids, (std::vector<int32_t>{-(first + 1), -(second + 1)}));
  EXPECT_EQ(batch.positions, (std::vector<int32_t>{2, 2}));
  scheduler.promise(1);
  scheduler.promise(2);
  scheduler.keep_promise(1, 101);
  scheduler.remove(2);  // its token ended it
  ASSERT_TRUE(scheduler.next(batch));
  EXPECT_EQ(batch.requests, (std::vector<uint64_t>{1, 3}));
  EXPECT_EQ(batch.ids, (std::vector<int32_t>{-(first + 1), 30, 5}));
  EXPECT_EQ(scheduler.seat(3), second) << "seats are used again";
  scheduler.keep_promise(1, 102);
  // Known by now.
  scheduler.append(1, 103);
  ASSERT_TRUE(scheduler.next(batch));
  EXPECT_EQ(batch.ids, (std::vector<int32_t>{103}));
}

}  // namespace
}  // namespace ingot
