#include <gtest/gtest.h>

#include "base/log.h"
#include "ir/ir_cases.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "passes/pass.h"

namespace ingot {
namespace {

constexpr std::string_view kMlp = R"(
%x: f32[tokens, 8] = input x
%w: f32[4, 8] = weight w
%0: f32[tokens, 4] = matmul(%x, %w)  # up
%1: f32[tokens, 4] = activation(%0)  # act
output o = %1
)";

std::string error_of(const std::vector<std::string>& disabled) {
  try {
    run_passes(parse_network(kMlp), disabled);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    return error.what();
  }
  return "no error";
}

TEST(RunPasses, ReportsEveryPass) {
  PassReport report;
  run_passes(parse_network(kMlp), {"canonicalize"}, &report);
  ASSERT_EQ(report.size(), pass_list().size());
  for (size_t i = 0; i < report.size(); ++i) {
    EXPECT_EQ(report[i].name, pass_list()[i].name);
    EXPECT_EQ(report[i].disabled, report[i].name == "canonicalize");
    EXPECT_EQ(report[i].fired, report[i].name == "fuse_matmul_activation" ? 1 : 0) << report[i].name;
  }
  EXPECT_EQ(report.front().nodes_before, 4u);
  EXPECT_EQ(report.back().nodes_after, 3u);
}

TEST(RunPasses, DisabledPassDoesNotRun) {
  Network network = run_passes(parse_network(kMlp), {"fuse_matmul_activation"});
  EXPECT_EQ(print(network), print(parse_network(kMlp)));
}

TEST(RunPasses, UnknownNameNamesTheNearest) {
  EXPECT_NE(error_of({"fuse_add_nrom"}).find("the nearest is \"fuse_add_norm\""), std::string::npos)
      << error_of({"fuse_add_nrom"});
}

TEST(RunPasses, OriginsGoToTheValuesThatEqualThem) {
  Network network = run_passes(parse_network(kMlp));
  const Node& matmul = network.node(network.outputs()[0].second);
  EXPECT_EQ(matmul.op.name(), "matmul");
  EXPECT_EQ(matmul.label, "up");
  EXPECT_EQ(matmul.origins, (std::vector<std::vector<std::string>>{{"act"}}));
}

TEST(RunPasses, OriginsAreUnique) {
  Network network = parse_network(R"(
%x: f32[tokens, 8] = input x
%y: f32[tokens, 8] = input y
%g: f32[8] = weight g
%0: f32[tokens, 8], %1: f32[tokens, 8] = add_rms_norm(%x, %y, %g)  # a
%2: f32[tokens, 8] = activation(%0)  # a
%3: f32[tokens, 8] = activation(%2)
output o = %3
)");
  mark_origins(network);
  EXPECT_EQ(network.nodes()[3].origins, (std::vector<std::vector<std::string>>{{"a"}, {"a.1"}}));
  EXPECT_EQ(network.nodes()[4].origins[0][0], "a#2");
  EXPECT_EQ(network.nodes()[5].origins[0][0], "activation");
}

// Every pass alone may be switched off: the others must not rely on it.
TEST(RunPasses, AnyPassCanBeDisabled) {
  auto path = std::filesystem::path(INGOT_SOURCE_DIR) / "tests" / "passes" / "pipeline.ir";
  for (const testing::IrCase& each : testing::parse_cases(testing::read_text(path)))
    for (const Pass& pass : pass_list()) {
      SCOPED_TRACE(each.title + " without " + std::string(pass.name));
      EXPECT_NO_THROW(verify(run_passes(parse_network(each.before), {std::string(pass.name)})));
    }
}

// What the last Llama layer must become: eight nodes as in every layer, and the selection of rows behind attention.
TEST(RunPasses, LlamaLayerIsEightNodes) {
  auto path = std::filesystem::path(INGOT_SOURCE_DIR) / "tests" / "passes" / "pipeline.ir";
  Network network = run_passes(parse_network(testing::parse_cases(testing::read_text(path))[0].before));
  std::vector<std::string> second_layer;
  bool inside = false;
  for (const Node& node : network.nodes()) {
    if (node.label == "l1.input_layernorm") inside = true;
    if (node.label == "norm") inside = false;
    if (inside && node.kind == NodeKind::kOp) second_layer.emplace_back(node.op.name());
  }
  EXPECT_EQ(
      join(second_layer),
      "add_rms_norm, matmul, rope_kv_write, attention, gather_rows, matmul, gather_rows, add_rms_norm, matmul, matmul");
}

}  // namespace
}  // namespace ingot
