// The device code of every CUDA source compiles for every architecture it accepts, on machines without a GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <set>

#include "ops/matmul.h"
#include "ops/pointwise_chain.h"
#include "tactics/tactic.h"

namespace ingot {
namespace {

std::vector<Problem> all_problems() {
  std::vector<Problem> problems;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(INGOT_SOURCE_DIR) / "tests/problems")) {
    std::ifstream in(entry.path());
    for (std::string line; std::getline(in, line);)
      if (!line.empty() && line[0] != '#') problems.push_back(parse_problem(line));
  }
  return problems;
}

std::vector<std::string> device_files() {
  std::set<std::string> files;
  std::filesystem::path folder = std::filesystem::path(INGOT_SOURCE_DIR) / "src/tactics/cuda";
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".cuh") files.insert(entry.path().filename().string());
  return {files.begin(), files.end()};
}

// What a file makes of some problems is far from what it makes of others: gates of a matmul, chains of elementwise ops.
std::string_view form_of(const Problem& problem) {
  const auto* matmul = problem.op.as<Matmul>();
  if (matmul && matmul->gated) return "gated";
  return problem.op.is<PointwiseChain>() ? "chain" : "";
}

class CudaCompile : public testing::TestWithParam<const char*> {
 protected:
  // Of every file, the modules that the first problems of each form ask for, at most `most`, in the configurations that
  // come first.
  std::vector<DeviceModule> modules(size_t most) const {
    Target target = parse_target(std::string("cuda:") + GetParam(), 1);
    std::map<std::pair<std::string, std::string_view>, std::vector<DeviceModule>> by_file;
    for (const Problem& problem : all_problems())
      for (const TacticSource* source : tactic_list()) {
        auto offered = source->enumerate(problem, target);
        if (std::holds_alternative<Unsupported>(offered)) continue;
        const auto& configs = std::get<std::vector<std::string>>(offered);
        if (configs.empty()) continue;
        for (const DeviceModule& module : source->compile(problem, configs[0], target).modules) {
          std::vector<DeviceModule>& known = by_file[{module.file, form_of(problem)}];
          bool fresh = std::find(known.begin(), known.end(), module) == known.end();
          if (fresh && known.size() < most) known.push_back(module);
        }
      }
    std::vector<DeviceModule> all;
    for (const auto& [file, list] : by_file) all.insert(all.end(), list.begin(), list.end());
    return all;
  }
};

TEST_P(CudaCompile, EverySourceOfDeviceCode) {
  if (compiler_version().empty()) GTEST_SKIP() << why_no_compiler();
  bool hopper = std::string_view(GetParam()) == "sm_90a";
  std::vector<DeviceModule> list = modules(hopper ? 4 : 1);
  ThreadPool threads(usable_cpus());
  EXPECT_NO_THROW(compile_all(list, threads));
  std::set<std::string> files;
  for (const DeviceModule& module : list) {
    files.insert(module.file);
    EXPECT_GT(compile_module(module)->size(), 500u) << module.file;
  }
  EXPECT_GE(files.size(), 8u);
  std::cout << list.size() << " modules of " << files.size() << " files\n";
}

INSTANTIATE_TEST_SUITE_P(Architectures, CudaCompile, testing::Values("sm_80", "sm_89", "sm_90a", "sm_100a"),
                         [](const auto& info) { return std::string(info.param); });

// Every problem is solved on every architecture, whatever its dtypes.
TEST(CudaSources, SolveEveryProblem) {
  for (const char* arch : {"sm_80", "sm_89", "sm_90a", "sm_100a"}) {
    Target target = parse_target(std::string("cuda:") + arch, 1);
    for (const Problem& problem : all_problems()) {
      bool solved = false;
      for (const TacticSource* source : tactic_list())
        solved = solved || std::holds_alternative<std::vector<std::string>>(source->enumerate(problem, target));
      EXPECT_TRUE(solved) << arch << ": " << problem.key();
    }
  }
}

// Whoever adds a .cuh that is a whole module and not a part of one also adds a problem that reaches it.
TEST(CudaSources, ReachEveryFileOfDeviceCode) {
  Target target = parse_target("cuda:sm_90a", 1);
  std::set<std::string> reached = {"ceilings.cuh"};  // measured with, not solved with
  for (const Problem& problem : all_problems())
    for (const TacticSource* source : tactic_list()) {
      auto offered = source->enumerate(problem, target);
      if (std::holds_alternative<Unsupported>(offered)) continue;
      for (const std::string& config : std::get<std::vector<std::string>>(offered))
        for (const DeviceModule& module : source->compile(problem, config, target).modules)
          for (std::string_view file : device_code_closure(module.file)) reached.emplace(file);
    }
  for (const std::string& file : device_files()) EXPECT_TRUE(reached.contains(file)) << file;
}

}  // namespace
}  // namespace ingot
