#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"
#include "base/mapped_file.h"
#include "plan/check_plan.h"
#include "plan/engine_file.h"
#include "plan/plan_json.h"
#include "sample_plan.h"

namespace ingot {
namespace {

TEST(PlanJson, KeepsEverything) {
  Plan plan = sample_plan();
  Json json = plan_to_json(plan);
  EXPECT_EQ(plan_from_json(json), plan);
  EXPECT_EQ(plan_from_json(parse_json(json.dump())), plan);
  EXPECT_EQ(plan_to_json(plan_from_json(json)).dump(), json.dump());
}

// The form belongs to the version of the engine format. The fuzzer of engines begins with this file.
TEST(PlanJson, TheFormOfThisVersionIsTheStoredOne) {
  EXPECT_EQ(kEngineFormatVersion, 2u);
  EXPECT_EQ(plan_to_json(sample_plan()).dump() + "\n",
            read_text_file(INGOT_SOURCE_DIR "/tests/fuzz/seeds/engine/plan.json"));
}

TEST(PlanJson, StoresEachTypeOnce) {
  Json json = plan_to_json(sample_plan());
  std::vector<std::string> texts;
  value_from_json(json.at("types"), texts);
  std::sort(texts.begin(), texts.end());
  EXPECT_EQ(std::adjacent_find(texts.begin(), texts.end()), texts.end());
  EXPECT_EQ(texts.size(), 8u);
}

TEST(PlanJson, RefusesEveryMissingUnknownAndMistypedMember) {
  const Json good = plan_to_json(sample_plan());
  int refused = 0;
  // Every object of the document once without each member, with one more, and with each member of another type.
  std::function<void(Json&, const Json&)> visit = [&](Json& node, const Json& root) {
    auto expect_refusal = [&](const std::string& what) {
      EXPECT_THROW(plan_from_json(root), Error) << what;
      ++refused;
    };
    if (node.is_array())
      for (Json& element : node.as_array()) visit(element, root);
    if (!node.is_object()) return;
    const Json before = node;
    for (size_t i = 0; i < before.as_object().size(); ++i) {
      std::string key = before.as_object()[i].first;
      node.as_object().erase(node.as_object().begin() + static_cast<std::ptrdiff_t>(i));
      expect_refusal("without " + key);
      node = before;
      node.as_object()[i].second = before.as_object()[i].second.is_bool() ? Json("x") : Json(true);
      expect_refusal("mistyped " + key);
      node = before;
    }
    node.set("surprise", 1);
    expect_refusal("with one more");
    node = before;
    for (auto& [key, member] : node.as_object()) visit(member, root);
  };
  Json copy = good;
  visit(copy, copy);
  EXPECT_EQ(copy, good);
  EXPECT_GT(refused, 100);
}

TEST(PlanJson, NamesThePlaceOfAMistake) {
  Json json = plan_to_json(sample_plan());
  json.as_object().back().second = Json(3);
  Json& program = json.as_object()[7].second.as_array()[0];
  ASSERT_TRUE(program.is_object());
  program.as_object()[4].second.as_array()[0].set("scratch_bytes", -1);
  try {
    plan_from_json(json);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("key \"scratch_bytes\": found -1"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("[0]"), std::string::npos) << error.what();
  }
}

TEST(CheckPlan, AcceptsTheSample) {
  EXPECT_NO_THROW(check_plan(sample_plan()));
  EXPECT_NO_THROW(check_plan(Plan{}));
  EXPECT_EQ(weight_section_bytes(sample_plan()), 1344u);
  EXPECT_EQ(module_section_bytes(sample_plan()), 137u);
  EXPECT_EQ(weight_section_bytes(Plan{}), 0u);
}

struct Damage {
  const char* name;
  void (*apply)(Plan&);
  const char* message;
};

class CheckPlanDamage : public testing::TestWithParam<Damage> {};

TEST_P(CheckPlanDamage, IsRefused) {
  Plan plan = sample_plan();
  GetParam().apply(plan);
  try {
    check_plan(plan);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIncompatible);
    EXPECT_NE(std::string(error.what()).find(GetParam().message), std::string::npos) << error.what();
  }
}

BufferRef& buffer(Plan& plan, size_t step, size_t index) { return plan.programs[0].steps[step].buffers[index]; }

const Damage kDamages[] = {
    {"DuplicateInput", [](Plan& p) { p.inputs[1].name = "ids"; }, "two inputs called ids"},
    {"EmptyName", [](Plan& p) { p.weights[0].name = ""; }, "weight has no name"},
    {"InputLayout", [](Plan& p) { p.inputs[0].type.layout = "x"; }, "ids has the type"},
    {"PageSize", [](Plan& p) { p.groups[0].page_size = 0; }, "page size 0"},
    {"PageSizeTooLarge", [](Plan& p) { p.groups[0].page_size = 1025; }, "page size 1025"},
    {"PageSizeOfAnother", [](Plan& p) { p.groups[0].page_size *= 2; }, "positions of its group"},
    {"Window", [](Plan& p) { p.groups[0].window = -1; }, "window -1"},
    {"UnknownGroup", [](Plan& p) { p.states[0].group = "none"; }, "state layers.0.k: there is no cache group none"},
    {"StateShape", [](Plan& p) { p.states[0].type.shape[0] = Dim("pages"); }, "is not pool_pages.full"},
    {"StateOfNoGroup", [](Plan& p) { p.states[0].group = ""; }, "is not seats"},
    {"StateEmpty", [](Plan& p) { p.states[0].type.shape[1] = 0; }, "the type is"},
    {"StateSymbolic", [](Plan& p) { p.states[0].type.shape[1] = Dim("tokens"); }, "more than one symbolic"},
    {"WeightSymbolic", [](Plan& p) { p.weights[0].type.shape[0] = Dim("tokens"); }, "not constant"},
    {"WeightUnaligned", [](Plan& p) { p.weights[1].offset = 330; }, "not a multiple of 64"},
    {"WeightOverlap", [](Plan& p) { p.weights[1].offset = 192; }, "before the end 256"},
    {"WeightSize", [](Plan& p) { p.weights[0].bytes = 255; }, "255 bytes are stored"},
    {"WeightPackedTooSmall", [](Plan& p) { p.weights[1].bytes = 47; }, "47 bytes are stored"},
    {"WeightHuge",
     [](Plan& p) {
       p.weights[0].type.shape = {int64_t{1} << 40, int64_t{1} << 40};
     },
     "too large"},
    {"WeightEndless", [](Plan& p) { p.weights[1].offset = ~uint64_t{63}; }, "exceeds"},
    {"NegativeSize", [](Plan& p) { p.weights[0].type.shape[0] = -8; }, "between -8"},
    {"NoEntry", [](Plan& p) { p.programs[0].entry = ""; }, "program 0: the entry has no name"},
    {"DimTwice", [](Plan& p) { p.programs[0].dims[1].symbol = "tokens"; }, "stands twice"},
    {"DimOrder", [](Plan& p) { p.programs[0].dims[0].max = 3; }, "ranges from 1 over 4 to 3"},
    {"DimNegative", [](Plan& p) { p.programs[0].dims[1].min = -1; }, "ranges from -1"},
    {"DimHuge", [](Plan& p) { p.programs[0].dims[0].max = INT64_MAX; }, "to 9223372036854775807"},
    {"DimUnknown", [](Plan& p) { buffer(p, 0, 2).type.shape[0] = Dim("rows"); },
     "the dimension rows of f32[rows, 8] has no range"},
    {"DimOverflow", [](Plan& p) { buffer(p, 0, 2).type.shape[0] = Dim("tokens", INT64_MAX); }, "overflows"},
    {"DimShrinks", [](Plan& p) { buffer(p, 0, 2).type.shape[0] = Dim("tokens", -1, 30); }, "overflows"},
    {"DimBelowZero", [](Plan& p) { buffer(p, 0, 2).type.shape[0] = Dim("tokens", 1, -2); }, "between -1 and 14"},
    {"Rank", [](Plan& p) { buffer(p, 0, 2).type.shape.assign(5, Dim(1)); }, "more than 4 dimensions"},
    {"ArenaEnd", [](Plan& p) { p.programs[0].arena_bytes = 1024 + 31; }, "exceeds the 1055"},
    {"ArenaBuffer", [](Plan& p) { buffer(p, 0, 2).offset = 1600; }, "step 0 (embed): buffer 2: the arena range"},
    {"ArenaUnaligned", [](Plan& p) { buffer(p, 0, 2).offset = 65; }, "not a multiple"},
    {"ArenaIndex", [](Plan& p) { buffer(p, 0, 2).index = 1; }, "arena buffer 1"},
    {"ArenaHuge", [](Plan& p) { p.programs[0].arena_bytes = ~uint64_t{0}; }, "the arena has"},
    {"ScratchEnd", [](Plan& p) { p.programs[0].steps[1].scratch_bytes = 1025; }, "the scratch range"},
    {"ScratchOverflow", [](Plan& p) { p.programs[0].steps[1].scratch_bytes = ~uint64_t{0}; }, "the scratch range"},
    {"InputIndex", [](Plan& p) { buffer(p, 0, 0).index = 2; }, "there is no input 2; there are 2"},
    {"InputNegative", [](Plan& p) { buffer(p, 0, 0).index = -1; }, "there is no input -1"},
    {"InputType", [](Plan& p) { buffer(p, 0, 0).type.dtype = DType::kI64; },
     "input ids is i32[tokens], not i64[tokens]"},
    {"InputOffset", [](Plan& p) { buffer(p, 0, 0).offset = 64; }, "at 64"},
    {"WeightIndex", [](Plan& p) { buffer(p, 0, 1).index = 7; }, "there is no weight 7"},
    {"WeightType", [](Plan& p) { buffer(p, 0, 1).type.layout = "x"; }, "weight embed is"},
    {"StateIndex", [](Plan& p) { buffer(p, 1, 1).index = 2; }, "there is no state 2"},
    {"StateType", [](Plan& p) { buffer(p, 1, 1).type.shape[1] = 1; }, "state layers.1.k is"},
    {"OutputIndex", [](Plan& p) { buffer(p, 1, 2).index = 1; }, "there is no output 1"},
    {"Origins", [](Plan& p) { p.programs[0].steps[0].origins.resize(4); }, "4 lists of origins for 3 buffers"},
};

INSTANTIATE_TEST_SUITE_P(All, CheckPlanDamage, testing::ValuesIn(kDamages),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace ingot
