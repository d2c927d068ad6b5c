// The sources of matmuls on NVIDIA GPUs: what they offer where, and that all of it compiles and fits.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/fields.h"
#include "kernels/cuda/module_launch.h"
#include "tactics/cuda/device_code.h"
#include "tactics/cuda/matmul_problem.h"
#include "tactics/tactic.h"

namespace ingot {
namespace {

using Names = std::vector<std::string>;

Target target_of(const std::string& arch) {
  Target target;
  target.kind = "cuda";
  target.cuda_arch = arch;
  target.multiprocessors = 132;
  return target;
}

bool is_own(const TacticSource& source) {
  constexpr std::string_view kNames[] = {"cuda.gemv", "cuda.gemv_direct", "cuda.skinny", "cuda.matmul_mma",
                                         "cuda.matmul"};
  return std::count(std::begin(kNames), std::end(kNames), source.name()) > 0;
}

Names offering(const std::string& problem, const std::string& arch) {
  Names names;
  for (const TacticSource* source : tactic_list())
    if (is_own(*source) && std::holds_alternative<Names>(source->enumerate(parse_problem(problem), target_of(arch))))
      names.emplace_back(source->name());
  return names;
}

std::string refusal(const std::string& problem, const std::string& arch, std::string_view name) {
  for (const TacticSource* source : tactic_list())
    if (source->name() == name) {
      auto offered = source->enumerate(parse_problem(problem), target_of(arch));
      return std::holds_alternative<Unsupported>(offered) ? std::get<Unsupported>(offered).reason : "accepted";
    }
  return "no such source";
}

std::vector<CompiledTactic> tactics_for(const std::string& text, const Target& target) {
  Problem problem = parse_problem(text);
  std::vector<CompiledTactic> tactics;
  for (const TacticSource* source : tactic_list()) {
    auto offered = source->enumerate(problem, target);
    if (!is_own(*source) || !std::holds_alternative<Names>(offered)) continue;
    for (const std::string& config : std::get<Names>(offered))
      tactics.push_back(source->compile(problem, config, target));
  }
  return tactics;
}

TEST(CudaMatmul, FewRowsStreamWeightsWhereTheCopyEngineIs) {
  EXPECT_EQ(offering("matmul bf16[1, 4096] bf16[6144, 4096]", "sm_90a"),
            (Names{"cuda.gemv", "cuda.gemv_direct", "cuda.matmul_mma", "cuda.matmul"}));
  EXPECT_EQ(offering("matmul bf16[1, 4096] bf16[6144, 4096]", "sm_80"),
            (Names{"cuda.gemv_direct", "cuda.matmul_mma", "cuda.matmul"}));
  EXPECT_EQ(offering("matmul bf16[16, 4096] bf16[6144, 4096]", "sm_100a"),
            (Names{"cuda.skinny", "cuda.matmul_mma", "cuda.matmul"}));
  EXPECT_EQ(offering("matmul f32[1, 4096] f32[6144, 4096]", "sm_90a"),
            (Names{"cuda.gemv", "cuda.gemv_direct", "cuda.matmul"}));
}

TEST(CudaMatmul, LoadsToRegistersAreForWhereTheCopyEngineIsMissing) {
  for (const TacticSource* source : tactic_list()) {
    if (source->name() != "cuda.gemv_direct") continue;
    EXPECT_EQ(source->outclassed_by(target_of("sm_90a")), "cuda.gemv");
    EXPECT_EQ(source->outclassed_by(target_of("sm_89")), "");
    EXPECT_EQ(source->outclassed_by(Target{}), "");
  }
}

// A block with half of shared memory or more has a multiprocessor to itself; a smaller one fits beside such a block.
TEST(CudaMatmul, StreamedBlocksShareNoMultiprocessorWithTheirOwnKind) {
  const Target target = target_of("sm_90a");
  const int64_t most = shared_bytes_limit(target);
  for (int64_t n : {64, 2048, 3072, 4096, 16384, 128256})
    for (int64_t k : {512, 2048, 8192, 14336}) {
      const std::string problem = format("matmul bf16[1, {}] bf16[{}, {}]", k, n, k);
      for (const CompiledTactic& tactic : tactics_for(problem, target)) {
        if (tactic.modules[0].file != "gemv_stream.cuh") continue;
        Lexer lexer(tactic.steps[0].parameters);
        const int64_t bytes = parse_fields<ModuleLaunch>(lexer).shared_bytes;
        EXPECT_LE(bytes, most) << problem;
        EXPECT_TRUE(2 * bytes > most || bytes + most / 2 + 4096 < most) << problem << ": " << bytes;
      }
    }
}

TEST(CudaMatmul, OddSizesAndMixedTypesAlwaysHaveTheFallback) {
  for (const char* problem : {"matmul f32[2, 131] f32[75, 131]", "matmul bf16[1, 7] f16[5, 7]",
                              "matmul f32[40, 1] bf16[1, 1]", "matmul f16[3000, 64] f32[33, 64]"})
    for (const char* arch : {"sm_80", "sm_90a", "sm_120a"})
      EXPECT_EQ(offering(problem, arch).back(), "cuda.matmul") << problem << " on " << arch;
}

TEST(CudaMatmul, RefusalsHaveReasons) {
  EXPECT_EQ(refusal("matmul bf16[1, 131] bf16[75, 131]", "sm_90a", "cuda.gemv"),
            "rows of w are no multiple of 16 bytes");
  EXPECT_EQ(refusal("matmul bf16[1, 128] bf16[75, 128]", "sm_89", "cuda.gemv"), "needs compute capability 9.0");
  EXPECT_EQ(refusal("matmul f32[1, 128] f16[75, 128]", "sm_90a", "cuda.gemv"), "x has a wider range than f16 weights");
  EXPECT_EQ(refusal("matmul bf16[9, 48] bf16[75, 48]", "sm_90a", "cuda.skinny"), "k is 48, not a multiple of 64");
  EXPECT_EQ(refusal("matmul f32[9, 64] f32[75, 64]", "sm_90a", "cuda.matmul_mma"), "needs 16-bit weights");
  EXPECT_EQ(refusal("rms_norm f32[9, 64] f32[64]", "sm_90a", "cuda.matmul"), "");
  Target cpu;
  const Problem problem = parse_problem("matmul f32[1, 8] f32[8, 8]");
  for (const TacticSource* source : tactic_list()) {
    if (!is_own(*source)) continue;
    EXPECT_EQ(std::get<Unsupported>(source->enumerate(problem, Target{})).reason, "needs a cuda target");
  }
}

// The largest and smallest layers of known models, and shapes that a tuner cuts down.
TEST(CudaMatmul, EveryLaunchFitsTheArchitecture) {
  for (const char* arch : {"sm_80", "sm_86", "sm_90a", "sm_100a", "sm_120a"})
    for (int rows : {1, 2, 3, 8, 17, 32, 300})
      for (const char* w : {"[128, 64]", "[4096, 14336]", "[16384, 53248]", "[128256, 4096]", "[192, 28672]"})
        for (const char* dtype : {"bf16", "f32"}) {
          std::string k = std::string(w).substr(std::string(w).find(',') + 2);
          std::string problem = format("matmul {}[{}, {} {}{}", dtype, rows, k, dtype, w);
          SCOPED_TRACE(problem + " on " + arch);
          std::vector<CompiledTactic> tactics = tactics_for(problem, target_of(arch));
          ASSERT_FALSE(tactics.empty());
          EXPECT_LE(tactics.size(), 16u) << "too many to measure";
          for (const CompiledTactic& tactic : tactics) {
            Lexer lexer(tactic.steps.at(0).parameters);
            ModuleLaunch launch = parse_fields<ModuleLaunch>(lexer);
            EXPECT_LE(launch.shared_bytes, shared_bytes_limit(target_of(arch)));
            EXPECT_LE(launch.block[0], 1024);
            EXPECT_TRUE(launch.dependent);
          }
        }
}

TEST(CudaMatmul, AllDeviceCodeCompilesForEveryArchitecture) {
  if (compiler_version().empty()) GTEST_SKIP() << why_no_compiler();
  ThreadPool threads(2);
  std::vector<DeviceModule> modules;
  auto add = [&](const std::string& problem, const char* arch) {
    for (const CompiledTactic& tactic : tactics_for(problem, target_of(arch)))
      modules.insert(modules.end(), tactic.modules.begin(), tactic.modules.end());
  };
  for (const char* arch : {"sm_80", "sm_90a", "sm_100a", "sm_120a"}) {
    add("matmul bf16[1, 192] bf16[70, 192] f32[70] bf16[1, 70] {bias = true, function = gelu, residual = true}", arch);
    add("matmul bf16[5, 192] bf16[70, 192] bf16[70] bf16[5, 70] {bias = true, function = silu, residual = true}", arch);
    add("matmul f32[4, 192] f32[70, 192]", arch);
  }
  add("matmul f16[40, 192] f16[71, 192] {wide = true}", "sm_90a");
  add("matmul f32[3, 131] bf16[75, 131] f32[75] {bias = true}", "sm_80");
  EXPECT_GT(modules.size(), 40u);
  EXPECT_NO_THROW(compile_all(modules, threads));
}

}  // namespace
}  // namespace ingot
