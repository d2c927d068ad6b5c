#include "runtime/execution_context.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "device/target.h"
#include "runtime/tiny_model.h"

namespace ingot {
namespace {

// One sequence of `ids`, all at once, over pages in a scattered order, with logits of every row.
struct OneSequence {
  std::vector<int32_t> ids, positions, query_starts, context_lengths, output_rows, slots, pages, page_starts, zero{0};
  std::vector<float> states[4];
  DimValues dims;

  explicit OneSequence(std::vector<int32_t> ids_) : ids(std::move(ids_)) {
    auto n = static_cast<int32_t>(ids.size());
    int32_t page_count = (n + 3) / 4;
    for (int32_t p = 0; p < page_count; ++p) pages.push_back((p * 7 + 3) % 11);
    for (int32_t i = 0; i < n; ++i) {
      positions.push_back(i);
      output_rows.push_back(i);
      slots.push_back(pages[static_cast<size_t>(i / 4)] * 4 + i % 4);
    }
    query_starts = {0, n};
    context_lengths = {n};
    page_starts = {0, page_count};
    for (auto& state : states) state.resize(11 * 2 * 4 * 8);
    dims = {{"tokens", n},
            {"sequences", 1},
            {"outputs", n},
            {"pages.full", page_count},
            {"pages.sliding", page_count},
            {"pool_pages.full", 11},
            {"pool_pages.sliding", 11},
            {"something else", 3}};
  }

  void bind(ExecutionContext& context) {
    auto input = [&](const std::string& name, std::vector<int32_t>& list) {
      context.bind_input(name, std::as_bytes(std::span(list)));
    };
    input("ids", ids);
    input("positions", positions);
    input("query_starts", query_starts);
    input("context_lengths", context_lengths);
    input("output_rows", output_rows);
    for (std::string group : {"full", "sliding"}) {
      input("slots." + group, slots);
      input("page_starts." + group, page_starts);
      input("page_list." + group, pages);
      input("context_starts." + group, zero);
    }
    const char* names[] = {"full.k", "full.v", "sliding.k", "sliding.v"};
    for (size_t i = 0; i < 4; ++i) context.bind_state(names[i], std::as_writable_bytes(std::span(states[i])));
  }
};

class ExecutionContextTest : public testing::Test {
 protected:
  TinyModel model_;
  std::shared_ptr<const LoadedEngine> engine_ = model_.engine();
  ExecutionContext context_{engine_, std::make_shared<ThreadPool>(2)};

  void expect_logits(const std::vector<int32_t>& ids, const float* logits) {
    auto expected = model_.logits(ids);
    for (size_t i = 0; i < ids.size(); ++i)
      for (size_t v = 0; v < TinyModel::kVocab; ++v)
        ASSERT_NEAR(logits[i * TinyModel::kVocab + v], expected[i][v], 1e-3) << "position " << i;
  }

  std::string usage_error(const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      return error.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }
};

TEST_F(ExecutionContextTest, ComputesTheModel) {
  OneSequence run({3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7});
  run.bind(context_);
  context_.enqueue(run.dims);
  expect_logits(run.ids, static_cast<const float*>(context_.output("logits")));
  // Again with the same sizes and other values, then with the other program.
  run.ids[2] = 30;
  context_.enqueue(run.dims);
  expect_logits(run.ids, static_cast<const float*>(context_.output("logits")));
  EXPECT_EQ(context_.last_program()->dims[0].max, TinyModel::kMaxTokens);
  OneSequence small({7, 7, 2});
  small.bind(context_);
  context_.enqueue(small.dims);
  expect_logits(small.ids, static_cast<const float*>(context_.output("logits")));
  EXPECT_EQ(context_.last_program()->dims[0].max, 4);
}

TEST_F(ExecutionContextTest, WritesToABoundOutput) {
  OneSequence run({3, 1, 4, 1, 5, 9});
  run.bind(context_);
  std::vector<float> logits(6 * TinyModel::kVocab);
  context_.bind_output("logits", std::as_writable_bytes(std::span(logits)));
  context_.enqueue(run.dims);
  EXPECT_EQ(context_.output("logits"), logits.data());
  expect_logits(run.ids, logits.data());
}

TEST_F(ExecutionContextTest, RunsWithoutOutputRows) {
  OneSequence run({3, 1, 4, 1, 5, 9});
  run.bind(context_);
  run.dims["outputs"] = 0;
  EXPECT_NO_THROW(context_.enqueue(run.dims));
}

TEST_F(ExecutionContextTest, NamesTheDimensionThatDoesNotFit) {
  OneSequence run({3, 1, 4});
  run.bind(context_);
  auto refusal = [&](const char* name, int64_t value) {
    DimValues dims = run.dims;
    dims[name] = value;
    return usage_error([&] { context_.enqueue(dims); });
  };
  EXPECT_NE(refusal("tokens", 49).find("tokens = 49 is outside the range 1 to 48"), std::string::npos);
  EXPECT_NE(refusal("sequences", 9).find("sequences = 9 is outside the range 1 to 8"), std::string::npos);
  EXPECT_NE(refusal("pages.sliding", 0).find("pages.sliding = 0 is outside"), std::string::npos);
  // 5 outputs fit the second program and 3 tokens the first, but not together.
  EXPECT_NE(refusal("outputs", 5).find("none of the engine's 2 programs"), std::string::npos);
  DimValues dims = run.dims;
  dims.erase("outputs");
  EXPECT_NE(usage_error([&] { context_.enqueue(dims); }).find("the dimension outputs has no value"), std::string::npos);
  dims = run.dims;
  dims.erase("pool_pages.full");
  EXPECT_NE(usage_error([&] { context_.enqueue(dims); }).find("pool_pages.full has no value"), std::string::npos);
  EXPECT_NO_THROW(context_.enqueue(run.dims));
}

TEST_F(ExecutionContextTest, NamesWhatIsNotBoundOrTooSmall) {
  OneSequence run({3, 1, 4});
  EXPECT_NE(usage_error([&] { context_.enqueue(run.dims); }).find("input ids is not bound"), std::string::npos);
  run.bind(context_);
  context_.bind_input("positions", std::as_bytes(std::span(run.positions).first(2)));
  EXPECT_NE(usage_error([&] { context_.enqueue(run.dims); }).find("input positions needs 12 bytes; 8 are bound"),
            std::string::npos);
  run.bind(context_);
  run.dims["pool_pages.full"] = 12;
  EXPECT_NE(usage_error([&] { context_.enqueue(run.dims); }).find("state full.k needs 3072 bytes; 2816"),
            std::string::npos);
  EXPECT_NE(usage_error([&] { context_.bind_input("idz", {}); }).find("no input idz; it has ids, positions"),
            std::string::npos);
  EXPECT_NE(usage_error([&] { ExecutionContext(engine_, std::make_shared<ThreadPool>(1), "draft"); }).find("draft"),
            std::string::npos);
}

TEST_F(ExecutionContextTest, TellsTheObserverEveryStep) {
  OneSequence run({3, 1, 4});
  run.bind(context_);
  std::vector<std::string> labels;
  double total = 0;
  context_.observe([&](const ObservedStep& step) {
    labels.push_back(step.step.label);
    EXPECT_EQ(&step.program.steps[step.index], &step.step);
    EXPECT_EQ(step.arguments.size(), step.step.buffers.size());
    total += step.microseconds;
    if (step.index == 2) {
      const float* x = step.arguments[2].as<float>();
      EXPECT_FLOAT_EQ(x[16], model_.table[16] + model_.positions[16]);
      EXPECT_EQ(step.arguments[2].size[0], 3);
    }
  });
  context_.enqueue(run.dims);
  EXPECT_EQ(labels.size(), 13u);
  EXPECT_GT(total, 0);
}

TEST(LoadedEngineTest, LoadsADirectoryWithItsConfig) {
  Path folder = std::filesystem::temp_directory_path() / ("ingot_loaded_" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  OnExit remove([&] { std::filesystem::remove_all(folder); });
  EXPECT_THROW(LoadedEngine::load(folder), Error);
  TinyModel model;
  model.write(folder / "rank0.engine", model.plan());
  write_text_file(folder / "config.json", R"({"version": "1", "build_config": {"max_seq_len": 77}})");
  auto engine = LoadedEngine::load(folder);
  EXPECT_EQ(engine->config().at("build_config").get("max_seq_len", 0), 77);
  EXPECT_EQ(engine->directory(), folder);
  EXPECT_EQ(engine->weight(0).size(), model.table.size() * 4);
  EXPECT_EQ(std::memcmp(engine->weight(2).data(), model.head.data(), model.head.size() * 4), 0);
  EXPECT_EQ(engine->find_symbol("tokens"), 6);
  EXPECT_EQ(engine->find_symbol("token"), -1);
  ASSERT_EQ(engine->programs("main").size(), 2u);
  EXPECT_EQ(engine->programs("main")[0]->program->dims[0].max, 4);
  EXPECT_TRUE(engine->programs("draft").empty());
}

std::string refusal_of(const Plan& plan) {
  try {
    TinyModel().engine(plan);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIncompatible) << error.what();
    return error.what();
  }
  return "";
}

TEST(LoadedEngineTest, SaysWhatThisMachineOrBuildLacks) {
  Plan plan = TinyModel().plan();
  plan.programs[0].steps[0].kernel = "cpu.unheard_of";
  EXPECT_NE(refusal_of(plan).find("kernel cpu.unheard_of: this build of ingot has no such kernel"), std::string::npos);
  plan = TinyModel().plan();
  plan.programs[1].steps[1].parameters = "{nonsense = 1}";
  EXPECT_NE(refusal_of(plan).find("nonsense"), std::string::npos);
  plan = TinyModel().plan();
  plan.weights[0].type.layout = "unheard_of";
  for (Program& program : plan.programs) program.steps[0].buffers[1].type.layout = "unheard_of";
  EXPECT_NE(refusal_of(plan).find("weight table: this build of ingot has no weight layout unheard_of"),
            std::string::npos);
  plan = TinyModel().plan();
  for (Program& program : plan.programs) program.target = "cuda:sm_90a";
  EXPECT_NE(refusal_of(plan), "");
  plan = TinyModel().plan();
  plan.programs.clear();
  EXPECT_NE(refusal_of(plan).find("the engine has no programs"), std::string::npos);
}

// Their checksums are right: what would be read and written with such buffers must be refused before a run.
TEST(LoadedEngineTest, RefusesStepsWithBuffersOfAnotherOp) {
  const Plan right = TinyModel().plan();
  const auto expect_refused = [&](auto&& change) {
    Plan plan = right;
    change(plan.programs[0].steps);
    EXPECT_NE(refusal_of(plan).find("does not have buffers of"), std::string::npos) << refusal_of(plan);
  };
  for (size_t i = 0; i < right.programs[0].steps.size(); ++i) {
    SCOPED_TRACE(i);
    expect_refused([&](auto& steps) { steps[i].buffers.pop_back(); });
    expect_refused([&](auto& steps) { steps[i].buffers.clear(); });
    expect_refused([&](auto& steps) { steps[i].buffers.push_back(steps[i].buffers[0]); });
  }
  expect_refused([](auto& steps) {
    const auto step_of = [&](std::string_view op) {
      return std::find_if(steps.begin(), steps.end(),
                          [&](const Step& s) { return s.kernel.find(op) != std::string::npos; });
    };
    ASSERT_TRUE(step_of("add") != steps.end() && step_of("matmul") != steps.end());
    std::swap(step_of("add")->buffers, step_of("matmul")->buffers);
  });
}

TEST(LoadedEngineTest, RefusesATargetAboveThisMachine) {
  Plan plan = TinyModel().plan();
  for (Program& program : plan.programs) program.target = "cpu:amx";
  if (cpu_features().level == CpuLevel::kAmx) mask_cpu_features(CpuLevel::kAvx512);
  std::string message = refusal_of(plan);
  EXPECT_NE(message.find("the target cpu:amx needs amx; this machine has"), std::string::npos) << message;
  // With a program for this machine beside it, that one is used.
  plan.programs[1].target = "cpu:portable";
  EXPECT_EQ(TinyModel().engine(plan)->programs("main").size(), 1u);
}

}  // namespace
}  // namespace ingot
