// A sequence's logits depend on its own tokens alone: not on its company, on chunks, pages, preemptions or threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "api/engine.h"
#include "e2e/models.h"
#include "generate/logit_evaluator.h"
#include "generate/token_session.h"
#include "ingot/generate.h"

namespace ingot {
namespace {

constexpr double kAllowed = 1e-5;  // of the norm of a row of logits
constexpr int64_t kNewTokens = 12;

struct Ask {
  std::vector<int32_t> prompt;
  int64_t max_chunk = 0;
  int64_t arrives = 0;  // before this step
  int64_t new_tokens = kNewTokens;
};

struct Answer {
  std::vector<int32_t> ids;
  std::vector<std::vector<float>> logits;  // that each id was chosen from
};

struct Company {
  std::vector<Answer> answers;
  int64_t preemptions = 0;
  size_t most_running = 0, most_waiting = 0;
  int64_t mixed_steps = 0;      // steps with both single tokens and longer chunks
  int64_t scattered_steps = 0;  // steps in which some sequence's pages do not follow each other
};

// Greedy generation, step by step over the scheduler, keeping the logits.
class Generator {
 public:
  Generator(const Engine& engine, const StepRunnerOptions& options) : runner_(engine.impl()->loaded, options) {}

  Company run(const std::vector<Ask>& asks) {
    Company company;
    company.answers.resize(asks.size());
    Scheduler scheduler(runner_.groups(), runner_.pool(), runner_.limits());
    size_t left = asks.size();
    StepBatch batch;
    for (int64_t step = 0; left > 0; ++step) {
      for (size_t i = 0; i < asks.size(); ++i)
        if (asks[i].arrives == step)
          scheduler.add({.id = i,
                         .tokens = asks[i].prompt,
                         .max_new_tokens = asks[i].new_tokens,
                         .max_chunk = asks[i].max_chunk});
      if (!scheduler.next(batch)) continue;
      observe(scheduler, batch, company);
      std::span<float> logits = runner_.run(batch);
      for (size_t row = 0; row < batch.outputs.size(); ++row) {
        auto id = batch.outputs[row].request;
        if (take(logits.subspan(row * vocab(), vocab()), asks[id], company.answers[id], scheduler, id)) --left;
      }
    }
    company.preemptions = scheduler.preemptions();
    return company;
  }

  // Bytes of so many pages in every group.
  uint64_t bytes_of_pages(int64_t pages) {
    uint64_t bytes = 0;
    for (size_t g = 0; g < runner_.pool().groups(); ++g) bytes += runner_.pool().statistics(g).page_bytes;
    return bytes * static_cast<uint64_t>(pages);
  }
  size_t vocab() const { return static_cast<size_t>(runner_.vocab_size()); }

 private:
  // True when the answer is complete.
  static bool take(std::span<const float> logits, const Ask& ask, Answer& answer, Scheduler& scheduler, uint64_t id) {
    auto best = std::max_element(logits.begin(), logits.end());
    answer.ids.push_back(static_cast<int32_t>(best - logits.begin()));
    answer.logits.emplace_back(logits.begin(), logits.end());
    bool complete = static_cast<int64_t>(answer.ids.size()) == ask.new_tokens;
    if (complete)
      scheduler.remove(id);
    else
      scheduler.append(id, answer.ids.back());
    return complete;
  }

  static void observe(const Scheduler& scheduler, const StepBatch& batch, Company& company) {
    company.most_running = std::max(company.most_running, scheduler.running());
    company.most_waiting = std::max(company.most_waiting, scheduler.waiting());
    bool single = false, chunk = false, scattered = false;
    for (size_t s = 0; s + 1 < batch.query_starts.size(); ++s) {
      int32_t tokens = batch.query_starts[s + 1] - batch.query_starts[s];
      (tokens == 1 ? single : chunk) = true;
      std::span<const int32_t> pages = scheduler.pages(batch.requests[s], 0);
      for (size_t p = 1; p < pages.size(); ++p) scattered = scattered || pages[p] != pages[p - 1] + 1;
    }
    company.mixed_steps += single && chunk;
    company.scattered_steps += scattered;
  }

  StepRunner runner_;
};

void expect_same(const Answer& found, const Answer& wanted) {
  ASSERT_EQ(found.ids, wanted.ids);
  double worst = 0;
  for (size_t row = 0; row < wanted.logits.size(); ++row) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < wanted.logits[row].size(); ++i) {
      difference = std::max<double>(difference, std::abs(found.logits[row][i] - wanted.logits[row][i]));
      norm += double{wanted.logits[row][i]} * wanted.logits[row][i];
    }
    worst = std::max(worst, difference / std::sqrt(norm));
  }
  EXPECT_LE(worst, kAllowed);
}

class Batch : public testing::TestWithParam<const char*> {
 protected:
  static const Engine& engine() {
    static std::map<std::string, Engine> engines;
    std::string name = GetParam();
    auto found = engines.find(name);
    if (found != engines.end()) return found->second;
    BuildConfig config = untuned("float32");
    config.max_batch_size = 6;
    config.max_num_tokens = 48;
    config.max_seq_len = 160;
    config.tokens_per_block = 8;
    return engines.emplace(name, quick_engine(name == "baker-7m" ? baker_7m() : toy_model(name), config)).first->second;
  }

  static Generator generator(uint64_t kv_cache_memory = 0, int threads = 2) {
    return Generator(engine(), {.threads = threads, .kv_cache_memory = kv_cache_memory});
  }

  // Different for every seed; the same every time.
  std::vector<int32_t> prompt(uint64_t seed, int64_t length) {
    std::vector<int32_t> ids;
    uint64_t state = seed * 77 + 1;
    for (int64_t i = 0; i < length; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      ids.push_back(static_cast<int32_t>((state >> 33) % vocab_));
    }
    return ids;
  }

  Answer alone(const Ask& ask) {
    Ask first = ask;
    first.arrives = 0;
    first.max_chunk = 0;
    return generator().run({first}).answers[0];
  }

  void expect_each_as_alone(const Company& company, const std::vector<Ask>& asks) {
    for (size_t i = 0; i < asks.size(); ++i) {
      SCOPED_TRACE(i);
      expect_same(company.answers[i], alone(asks[i]));
    }
  }

  uint64_t vocab_ = generator().vocab();
};

TEST_P(Batch, DoesNotDependOnWhatElseIsInTheStep) {
  std::vector<Ask> asks;
  for (uint64_t i = 0; i < 6; ++i) asks.push_back({prompt(i, 1 + static_cast<int64_t>(i) * 7)});
  Company company = generator().run(asks);
  EXPECT_EQ(company.most_running, 6u);
  expect_each_as_alone(company, asks);
}

TEST_P(Batch, DoesNotDependOnHowThePromptIsChunked) {
  Ask ask{prompt(1, 45)};
  Answer whole = alone(ask);
  for (int64_t chunk : {1, 2, 5, 8, 16, 31}) {
    SCOPED_TRACE(chunk);
    ask.max_chunk = chunk;
    expect_same(generator().run({ask}).answers[0], whole);
  }
}

TEST_P(Batch, PromptsThatExceedAStepGiveTheSameAsShortSteps) {
  Ask ask{prompt(2, 140)};  // three steps
  Answer whole = alone(ask);
  ask.max_chunk = 13;
  expect_same(generator().run({ask}).answers[0], whole);
}

TEST_P(Batch, StepsThatMixDecodesAndPrefillChunksChangeNothing) {
  std::vector<Ask> asks = {{prompt(1, 5), 0, 0}, {prompt(2, 90), 11, 2}, {prompt(3, 33), 0, 3}, {prompt(4, 70), 17, 5}};
  Company company = generator().run(asks);
  EXPECT_GT(company.mixed_steps, 3);
  expect_each_as_alone(company, asks);
}

TEST_P(Batch, ScatteredAndReusedPagesChangeNothing) {
  // Short ones come and go, and leave their pages in pieces to the long ones.
  std::vector<Ask> asks;
  for (uint64_t i = 0; i < 10; ++i)
    asks.push_back({prompt(i, 6 + static_cast<int64_t>(i * 5 % 17)), 3, static_cast<int64_t>(i), 3 + int64_t(i % 4)});
  asks.push_back({prompt(20, 60), 10, 4});
  asks.push_back({prompt(21, 50), 7, 5});
  Company company = generator(generator().bytes_of_pages(30)).run(asks);
  EXPECT_GT(company.scattered_steps, 0);
  expect_each_as_alone(company, asks);
}

TEST_P(Batch, PreemptionAndResumptionChangeNothing) {
  // All are admitted, for their prompts fit; their answers then need more pages than there are.
  std::vector<Ask> asks;
  for (uint64_t i = 0; i < 4; ++i) asks.push_back({prompt(i, 14), 0, 0, 40});
  // Behind a window no sequence ever holds more than three pages.
  int64_t pages = std::string(GetParam()) == "mistral-sliding" ? 8 : 13;
  Company company = generator(generator().bytes_of_pages(pages)).run(asks);
  EXPECT_GT(company.preemptions, 0);
  expect_each_as_alone(company, asks);
}

TEST_P(Batch, RequestsWaitForAFullPool) {
  std::vector<Ask> asks;
  for (uint64_t i = 0; i < 5; ++i) asks.push_back({prompt(i, 40)});
  Company company = generator(generator().bytes_of_pages(9)).run(asks);
  EXPECT_GT(company.most_waiting, 0u);
  EXPECT_LT(company.most_running, 5u);
  expect_each_as_alone(company, asks);
}

TEST_P(Batch, OneAndTwoThreadsAgree) {
  std::vector<Ask> asks = {{prompt(1, 45)}, {prompt(2, 7), 3, 1}};
  Company one = generator(0, 1).run(asks), two = generator(0, 2).run(asks);
  for (size_t i = 0; i < asks.size(); ++i) expect_same(one.answers[i], two.answers[i]);
}

TEST_P(Batch, LogitsOfEveryPositionAgreeWithThoseOfSingleTokens) {
  std::vector<int32_t> ids = prompt(3, 70);
  StepRunnerOptions options{.threads = 2};
  std::vector<float> chunks = evaluate_logits(engine().impl()->loaded, ids, options);
  std::vector<float> tokens = evaluate_logits(engine().impl()->loaded, ids, options, 1);
  double difference = 0, norm = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    difference = std::max<double>(difference, std::abs(chunks[i] - tokens[i]));
    norm += double{chunks[i]} * chunks[i];
  }
  EXPECT_LE(difference / std::sqrt(norm / static_cast<double>(ids.size())), kAllowed);
}

TEST_P(Batch, OneThatCanNeverFitIsRefused) {
  Session session(engine(), {.threads = 2, .kv_cache_memory = static_cast<int64_t>(generator().bytes_of_pages(2))});
  SamplingParams params;
  params.max_tokens = 120;
  params.ignore_eos = true;
  try {
    session.generate_ids(prompt(1, 30), params);
    FAIL() << "149 tokens fit into two pages of eight";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDoesNotFit);
    EXPECT_NE(std::string(error.what()).find("30 prompt tokens and 120 new ones do not fit the KV cache of"),
              std::string::npos)
        << error.what();
  }
  params.max_tokens = 2;
  EXPECT_EQ(session.generate_ids(prompt(1, 4), params).ids.size(), 2u) << "the session goes on after a refusal";
}

// The window of the last two is 16; gemma3 also has layers without one.
INSTANTIATE_TEST_SUITE_P(Models, Batch, testing::Values("baker-7m", "mistral-sliding", "gemma3"), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace ingot
