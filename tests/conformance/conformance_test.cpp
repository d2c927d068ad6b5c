// Every problem of tests/problems/*.txt, by every tactic of every source, for every CPU level that this machine has,
// on one thread and on two, and for its GPU, against the meaning of the op.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <set>

#include "base/log.h"
#include "device/cuda/device.h"
#include "tune/check.h"
#include "tune/gpu_runner.h"

namespace ingot {
namespace {

namespace fs = std::filesystem;

// The sources for one kind of target may refuse what these files hold; all other problems need a source for every
// target.
struct MayBeRefused {
  std::string_view kind, file;
};
constexpr MayBeRefused kMayBeRefused[] = {{"cpu", "half_activations"}};

bool may_be_refused(const Target& target, const fs::path& file) {
  return std::any_of(std::begin(kMayBeRefused), std::end(kMayBeRefused),
                     [&](const MayBeRefused& may) { return may.kind == target.kind && may.file == file.stem(); });
}

constexpr size_t kGuard = 256;
constexpr std::byte kUnwritten{0xff};  // NaN in every float dtype, -1 in integers

// INGOT_PROBLEMS names another folder, for example with parts of these files (dev/sanitize_gpu).
fs::path problem_folder() {
  const char* other = std::getenv("INGOT_PROBLEMS");
  return other ? fs::path(other) : fs::path(INGOT_SOURCE_DIR) / "tests/problems";
}

std::vector<fs::path> problem_files() {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(problem_folder()))
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> problem_lines(const fs::path& file) {
  std::vector<std::string> lines;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);)
    if (!line.empty() && line[0] != '#') lines.push_back(line);
  return lines;
}

std::vector<Target> cpu_targets() {
  std::vector<Target> targets;
  for (int level = 0; level <= static_cast<int>(cpu_features().level); ++level)
    targets.push_back(parse_target(format("cpu:{}", enum_names(CpuLevel{})[static_cast<size_t>(level)]), 2));
  return targets;
}

// Tactics for the CPU and for a GPU behind one interface: all memory is the host's.
struct HostTrialRunner {
  HostTrialRunner(const Problem& problem, const CompiledTactic& tactic) : runner(problem, tactic) {}
  void bind(int index, std::byte* data, size_t) { runner.bind(index, data); }
  void run(ThreadPool& threads) { runner.run(threads); }
  TacticRunner runner;
};
struct GpuTrialRunner {
  GpuTrialRunner(const Problem& problem, const CompiledTactic& tactic) : runner(problem, tactic) {}
  void bind(int index, std::byte* data, size_t bytes) { runner.bind(index, data, bytes); }
  void run(ThreadPool&) { runner.run(); }
  GpuRunner runner;
};

// Outputs, and inputs that are states, in memory of their own with a guarded end.
template <class Runner>
class Trial {
 public:
  Trial(const Problem& problem, const Inputs& inputs, const CompiledTactic& tactic) : runner_(problem, tactic) {
    for (size_t i = 0; i < problem.inputs.size(); ++i) {
      const std::string& layout = tactic.input_layouts.at(i);
      if (layout.empty()) continue;
      packed_.push_back(packed(problem.inputs[i], inputs.data(i), layout));
      runner_.bind(static_cast<int>(i), packed_.back().data(), packed_.back().size());
    }
    for (size_t i = 0; i < problem.inputs.size(); ++i)
      if (tactic.input_layouts[i].empty() && !is_state(problem, i))
        runner_.bind(static_cast<int>(i), inputs.data(i), static_cast<size_t>(problem.inputs[i].bytes()));
    for (size_t o = 0; o < problem.outputs.size(); ++o) {
      size_t bytes = static_cast<size_t>(problem.outputs[o].bytes());
      AlignedBytes& memory = outputs_.emplace_back(bytes + kGuard);
      std::memset(memory.data(), static_cast<int>(kUnwritten), memory.size());
      int state = problem.op.aliased_input(static_cast<int>(o));
      if (state >= 0) {
        if (bytes > 0) std::memcpy(memory.data(), inputs.data(static_cast<size_t>(state)), bytes);
        runner_.bind(state, memory.data(), memory.size());
      }
      runner_.bind(static_cast<int>(problem.inputs.size() + o), memory.data(), memory.size());
    }
  }

  CheckResult check(const Expected& expected, ThreadPool& threads) {
    runner_.run(threads);
    std::vector<const void*> outputs;
    for (const AlignedBytes& output : outputs_) outputs.push_back(output.data());
    CheckResult result = expected.compare(outputs);
    for (const AlignedBytes& output : outputs_)
      for (size_t i = 0; i < kGuard; ++i)
        if (output.data()[output.size() - 1 - i] != kUnwritten) return {false, INFINITY, "it writes past an output"};
    return result;
  }

 private:
  static bool is_state(const Problem& problem, size_t input) {
    for (size_t o = 0; o < problem.outputs.size(); ++o)
      if (problem.op.aliased_input(static_cast<int>(o)) == static_cast<int>(input)) return true;
    return false;
  }

  Runner runner_;
  std::vector<AlignedBytes> packed_, outputs_;
};

// A problem, its inputs and its results, made once for all tactics.
struct Case {
  explicit Case(Problem problem_)
      : problem(std::move(problem_)),
        inputs(make_inputs(problem, 1)),
        untouched(inputs),
        strict(problem, inputs, CheckMode::kFull, DType::kF32) {
    if (compute_dtype(problem) != DType::kF32)
      rounding.emplace(problem, inputs, CheckMode::kFull, compute_dtype(problem));
  }
  // Below avx512 no instruction of a CPU works on bf16, and none here on f16, so there is no reason to round operands.
  const Expected& expected(const Target& target) const {
    bool on_cpu = target.cpu_level >= CpuLevel::kAvx512 && compute_dtype(problem) == DType::kBF16;
    bool may_round = target.kind == "cuda" || on_cpu;
    return rounding && may_round ? *rounding : strict;
  }
  bool inputs_changed() const {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (problem.inputs[i].bytes() > 0 &&
          std::memcmp(inputs.data(i), untouched.data(i), static_cast<size_t>(problem.inputs[i].bytes())) != 0)
        return true;
    return false;
  }

  Problem problem;
  Inputs inputs, untouched;
  Expected strict;
  std::optional<Expected> rounding;
};

class Conformance : public testing::TestWithParam<fs::path> {
 protected:
  // Runs every tactic for `target`; says whether there was one.
  bool run_target(const Case& full, const std::vector<std::unique_ptr<Case>>& fewer, const Target& target) {
    bool accepted = false;
    for (const TacticSource* source : tactic_list()) {
      auto offered = source->enumerate(full.problem, target);
      if (const Unsupported* refusal = std::get_if<Unsupported>(&offered)) {
        log_debug("{} | {}: {}", full.problem.key(), source->name(), refusal->reason);
        continue;
      }
      accepted = true;
      for (const std::string& config : std::get<0>(offered)) {
        SCOPED_TRACE(format("{} {} for {}", source->name(), config, target.text()));
        CompiledTactic tactic = source->compile(full.problem, config, target);
        run_tactic(full, tactic, target);
        // Programs serve a range of rows: what was compiled for many runs on fewer.
        for (const auto& each : fewer) run_tactic(*each, tactic, target);
      }
    }
    return accepted;
  }

  void run_tactic(const Case& c, const CompiledTactic& tactic, const Target& target) {
    if (target.kind == "cuda") return note(c, Trial<GpuTrialRunner>(c.problem, c.inputs, tactic), target, one_);
    for (ThreadPool* threads : {&one_, &two_})
      note(c, Trial<HostTrialRunner>(c.problem, c.inputs, tactic), target, *threads);
  }

  template <class Runner>
  void note(const Case& c, Trial<Runner> trial, const Target& target, ThreadPool& threads) {
    ++runs_;
    CheckResult result = trial.check(c.expected(target), threads);
    worst_ = std::max(worst_, result.worst);
    EXPECT_TRUE(result.ok) << c.problem.key() << " on " << threads.size() << " threads: " << result.where << ", "
                           << result.worst << " times what is allowed";
  }

  // Of all problems, side by side.
  static void compile_device_code(const Target& target) {
    std::vector<DeviceModule> modules;
    std::set<std::string> names;
    for (const std::string& line : problem_lines(GetParam())) {
      Problem problem = parse_problem(line);
      for (const TacticSource* source : tactic_list()) {
        auto offered = source->enumerate(problem, target);
        if (std::holds_alternative<Unsupported>(offered)) continue;
        for (const std::string& config : std::get<0>(offered))
          for (const DeviceModule& module : source->compile(problem, config, target).modules)
            if (names.insert(module.name()).second) modules.push_back(module);
      }
    }
    ThreadPool threads(usable_cpus());
    compile_all(modules, threads);
    std::cout << modules.size() << " modules\n";
  }

  void run_problems(const std::vector<Target>& targets) {
    for (const std::string& line : problem_lines(GetParam())) {
      SCOPED_TRACE(line);
      Case full(parse_problem(line));
      int64_t rows = full.problem.outputs[0].rank() > 0 ? full.problem.outputs[0].shape[0].constant() : 0;
      // Half of them; and none, as in a step that wants no logits.
      std::vector<std::unique_ptr<Case>> fewer;
      for (int64_t some : {(rows + 1) / 2, int64_t{0}})
        if (some < rows)
          if (auto problem = with_rows(full.problem, some)) fewer.push_back(std::make_unique<Case>(*problem));
      for (const Target& target : targets) {
        EXPECT_TRUE(run_target(full, fewer, target) || may_be_refused(target, GetParam()))
            << "no source accepts this for " << target.text();
      }
      EXPECT_FALSE(full.inputs_changed()) << "a kernel wrote to its inputs";
    }
    std::cout << runs_ << " runs, largest error " << worst_ << " of what is allowed\n";
  }

  ThreadPool one_{1}, two_{2};
  int64_t runs_ = 0;
  double worst_ = 0;
};

TEST_P(Conformance, AgreesWithTheMeaningOfTheOp) { run_problems(cpu_targets()); }

TEST_P(Conformance, AgreesOnTheGpu) {
  std::string missing = cuda::Device::missing();
  if (!missing.empty()) GTEST_SKIP() << missing;
  Target target = parse_target("cuda", 1);
  compile_device_code(target);
  run_problems({target});
}

INSTANTIATE_TEST_SUITE_P(Problems, Conformance, testing::ValuesIn(problem_files()),
                         [](const auto& info) { return info.param.stem().string(); });

// The problem texts are what keys print, each once, and make_inputs serves all of them.
TEST(Problems, AreWrittenAsTheirKeys) {
  std::set<std::string> seen;
  for (const fs::path& file : problem_files()) {
    for (const std::string& line : problem_lines(file)) {
      SCOPED_TRACE(file.filename().string());
      EXPECT_EQ(parse_problem(line).key(), line);
      EXPECT_TRUE(seen.insert(line).second) << line << " is there twice";
    }
  }
  EXPECT_GT(seen.size(), 100u);
}

TEST(Problems, CoverEveryOp) {
  std::set<std::string> ops;
  for (const fs::path& file : problem_files())
    for (const std::string& line : problem_lines(file)) ops.insert(line.substr(0, line.find(' ')));
  for (const OpEntry& entry : op_list()) EXPECT_TRUE(ops.contains(std::string(entry.name))) << entry.name;
}

}  // namespace
}  // namespace ingot
