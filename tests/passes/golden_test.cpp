// tests/passes/NAME.ir: what the pass NAME makes of networks, and pipeline.ir for all passes together. Every case is
// also a numeric test. `test_passes --update` rewrites the expectations; read the diff.
#include <gtest/gtest.h>

#include "ir/ir_cases.h"
#include "ir/random_step.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "passes/pass.h"
#include "passes/test_options.h"

namespace ingot::testing {

TestOptions& test_options() {
  static TestOptions options;
  return options;
}

namespace {

const std::filesystem::path kFolder = std::filesystem::path(INGOT_SOURCE_DIR) / "tests" / "passes";

std::vector<std::string> golden_names() {
  std::vector<std::string> names = {"pipeline"};
  for (const Pass& pass : pass_list()) names.emplace_back(pass.name);
  return names;
}

Network run_named(const std::string& name, Network network, RewriteLog& log) {
  for (const Pass& pass : pass_list())
    if (pass.name == name) return pass.run(std::move(network), PassContext{log});
  return run_passes(std::move(network));
}

class Golden : public ::testing::TestWithParam<std::string> {};

TEST_P(Golden, Cases) {
  std::filesystem::path path = kFolder / (GetParam() + ".ir");
  ASSERT_TRUE(std::filesystem::exists(path)) << "every pass has cases in " << path;
  std::vector<IrCase> cases = parse_cases(read_text(path));
  int fires = 0, stays = 0;
  std::string updated;
  for (const IrCase& each : cases) {
    SCOPED_TRACE(each.title);
    Network before = parse_network(each.before);
    verify(before);
    RewriteLog log;
    Network after = run_named(GetParam(), before, log);
    verify(after);
    EXPECT_EQ(difference(before, after), "") << print(after);
    std::string result = print(after);
    bool unchanged = result == print(before);
    (unchanged ? stays : fires)++;
    updated += (updated.empty() ? "--- " : "\n--- ") + each.title + "\n" + each.before;
    updated += unchanged ? "unchanged\n" : "becomes\n" + result;
    if (test_options().update) continue;
    EXPECT_EQ(unchanged, each.unchanged) << join(log.refusals, "\n");
    if (!each.unchanged) {
      EXPECT_EQ(result, print(parse_network(each.after))) << join(log.refusals, "\n");
    }
  }
  if (test_options().update) return write_text(path, updated);
  EXPECT_GT(fires, 0) << "a case in which the pass fires";
  if (GetParam() != "pipeline") {
    EXPECT_GT(stays, 0) << "a case in which it must not fire";
  }
}

INSTANTIATE_TEST_SUITE_P(Passes, Golden, ::testing::ValuesIn(golden_names()), [](auto& info) { return info.param; });

}  // namespace
}  // namespace ingot::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    if (argument == "--update") ingot::testing::test_options().update = true;
    if (argument.starts_with("--networks=")) ingot::testing::test_options().networks = std::stoi(argument.substr(11));
    if (argument.starts_with("--seed=")) ingot::testing::test_options().seed = std::stoull(argument.substr(7));
  }
  return RUN_ALL_TESTS();
}
