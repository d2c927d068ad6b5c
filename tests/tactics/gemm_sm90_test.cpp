// What the Hopper GEMM refuses, that its launches fit the machine, and that its code compiles without spilling.
#include "tactics/cuda/gemm_sm90.h"

#include <gtest/gtest.h>

#include "base/fields.h"
#include "kernels/cuda/module_launch.h"

namespace ingot {
namespace {

constexpr int64_t kSharedBytes = 232448;  // of a block at most

Target hopper(std::string arch = "sm_90a") {
  Target target;
  target.kind = "cuda";
  target.cuda_arch = std::move(arch);
  target.multiprocessors = 132;
  return target;
}

std::string refusal_of(std::string_view problem, const Target& target) {
  auto offered = gemm_sm90_source()->enumerate(parse_problem(problem), target);
  const auto* refused = std::get_if<Unsupported>(&offered);
  return refused ? refused->reason : "accepted";
}

std::vector<std::string> configs_of(const Problem& problem) {
  return std::get<0>(gemm_sm90_source()->enumerate(problem, hopper()));
}

ModuleLaunch launch_of(const CompiledTactic& tactic) {
  Lexer lexer(tactic.steps.at(0).parameters);
  return parse_fields<ModuleLaunch>(lexer);
}

TEST(GemmSm90, SaysWhyNot) {
  EXPECT_EQ(refusal_of("matmul bf16[64, 64] bf16[64, 64]", hopper()), "accepted");
  EXPECT_EQ(refusal_of("matmul bf16[64, 64] bf16[64, 64]", hopper("sm_100a")), "needs sm_90a");
  EXPECT_EQ(refusal_of("matmul bf16[64, 64] bf16[64, 64]", parse_target("cpu", 1)), "needs a cuda target");
  EXPECT_EQ(refusal_of("matmul f32[64, 64] f32[64, 64]", hopper()),
            "found f32[64, 64] and f32[64, 64] where bf16 twice or f16 twice is needed");
  EXPECT_EQ(refusal_of("matmul bf16[64, 68] bf16[64, 68]", hopper()), "k is 68: needs a multiple of 8");
  EXPECT_EQ(refusal_of("matmul bf16[15, 64] bf16[64, 64]", hopper()), "15 rows: needs 16");
  EXPECT_EQ(refusal_of("add bf16[64, 64] bf16[64, 64]", hopper()), "");
}

TEST(GemmSm90, OffersWhatFits) {
  for (int64_t rows : {16, 64, 128, 200, 512, 1024, 8192})
    for (int64_t n : {8, 75, 4096, 28672})
      for (int64_t k : {8, 72, 4096}) {
        const Problem problem = parse_problem(format("matmul bf16[{}, {}] bf16[{}, {}]", rows, k, n, k));
        const std::vector<std::string> configs = configs_of(problem);
        EXPECT_FALSE(configs.empty());
        for (const std::string& config : configs) {
          SCOPED_TRACE(problem.key() + " " + config);
          const ModuleLaunch launch = launch_of(gemm_sm90_source()->compile(problem, config, hopper()));
          EXPECT_LE(launch.shared_bytes, kSharedBytes);
          EXPECT_LE(launch.cluster, 2);  // every cluster of two finds its place: sms / 2 of them run at the same time
        }
      }
}

// One code for every size: only dtypes, the cut and the epilogue are compiled in.
TEST(GemmSm90, SharesCodeBetweenSizes) {
  const Problem a = parse_problem("matmul bf16[300, 4096] bf16[4096, 4096]");
  const Problem b = parse_problem("matmul bf16[4000, 14336] bf16[6144, 14336]");
  const std::string config = configs_of(a).at(0);
  EXPECT_EQ(gemm_sm90_source()->compile(a, config, hopper()).modules,
            gemm_sm90_source()->compile(b, config, hopper()).modules);
}

TEST(GemmSm90, CompilesWithoutSpilling) {
  if (compiler_version().empty()) GTEST_SKIP() << why_no_compiler();
  for (std::string_view text : {"matmul bf16[64, 4096] bf16[4096, 4096]", "matmul bf16[2048, 4096] bf16[28672, 4096]",
                                "matmul f16[512, 4096] f16[6144, 4096] f32[6144] f16[512, 6144] "
                                "{bias = true, function = gelu, residual = true}"}) {
    SCOPED_TRACE(text);
    const Problem problem = parse_problem(text);
    const CompiledTactic tactic = gemm_sm90_source()->compile(problem, configs_of(problem).at(0), hopper());
    const std::string log = compiler_log(tactic.modules.at(0));
    EXPECT_NE(log.find("0 bytes spill stores"), std::string::npos) << log;
  }
}

}  // namespace
}  // namespace ingot
