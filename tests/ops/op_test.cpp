#include <set>

#include "ops/attention.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/tensors.h"

namespace ingot {
namespace {

TEST(OpList, NamesEveryOpOnce) {
  std::set<std::string_view> names;
  for (const OpEntry& entry : op_list()) EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
  EXPECT_EQ(names.size(), 25u);
}

TEST(OpList, ParsesAttributes) {
  Lexer lexer("{epsilon = 1e-05}");
  AnyOp op = parse_op("rms_norm", lexer);
  ASSERT_TRUE(op.is<RmsNorm>());
  EXPECT_EQ(op.as<RmsNorm>()->epsilon, 1e-5f);
  EXPECT_EQ(op.attributes(), "{epsilon = 1e-05}");
  for (const OpEntry& entry : op_list()) {
    Lexer none("");
    EXPECT_EQ(parse_op(entry.name, none).attributes(), "") << entry.name;
  }
}

TEST(OpList, NamesTheNearestOp) {
  Lexer lexer("");
  try {
    parse_op("rmsnorm", lexer);
    FAIL();
  } catch (const Error& e) {
    expect_contains(e.what(), "the nearest is \"rms_norm\"");
  }
}

TEST(AnyOp, RoundsResultsUnlessTold) {
  AnyOp scale = Scale{1.00390625f};
  HostTensors x = {tensor("bf16[1]", {1.0078125})};
  EXPECT_EQ(scale.evaluate(x, false)[0].values[0], 1.0078125 * 1.00390625);
  EXPECT_EQ(scale.evaluate(x)[0].values[0], 1.015625);  // the neighbours in bf16 are 1.0078125 and 1.015625
}

TEST(AnyOp, ErrorsBeginWithItsName) { EXPECT_TRUE(infer_error(Scale{}, "").starts_with("scale: found 0 inputs")); }

TEST(AnyOp, KnowsWhichOutputsContinueStates) {
  EXPECT_EQ(AnyOp(KvWrite{}).aliased_input(0), 0);
  EXPECT_EQ(AnyOp(RopeKvWrite{}).aliased_input(0), -1);
  EXPECT_EQ(AnyOp(RopeKvWrite{}).aliased_input(1), 2);
  EXPECT_EQ(AnyOp(RopeKvWrite{}).aliased_input(2), 3);
  EXPECT_EQ(AnyOp(Add{}).aliased_input(0), -1);
}

}  // namespace
}  // namespace ingot
