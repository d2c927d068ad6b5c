// Measures the GPU's matmul tactics: this library's own kernels beside cuBLASLt's best, shape by shape.
//   bench_cuda_matmul [--rounds N] [--dtype bf16|f16] [--source NAME] [--all] [--problem TEXT] [NxK …] [rows …]
// Without shapes, those of an 8B (Llama 3.1), at 64 to 8192 rows. All candidates of a problem take turns, so that they
// share whatever clock the power limit leaves; weights come from memory that no cache holds. Times are medians of the
// turns. --all lists every candidate.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "tactics/cuda/device_code.h"
#include "tune/tactic_bench.h"

using namespace ingot;

namespace {

struct Options {
  int rounds = 9;
  std::string dtype = "bf16", source;
  bool all = false;
  std::vector<std::pair<int64_t, int64_t>> shapes;  // n, k
  std::vector<int64_t> rows;
  std::vector<std::string> problems;
};

struct Candidate {
  const TacticSource* source;
  std::string config;
  CompiledTactic tactic;
  std::unique_ptr<Contestant> contestant;
  std::vector<double> times;
  double median() const {
    std::vector<double> sorted = times;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }
};

bool is_library(const Candidate& candidate) { return candidate.source->name() == "cuda.cublaslt"; }

std::vector<Candidate> candidates_for(const Problem& problem, const Target& target, const Options& options) {
  std::vector<Candidate> candidates;
  for (const TacticSource* source : tactic_list()) {
    if (!options.source.empty() && source->name() != options.source && source->name() != "cuda.cublaslt") continue;
    const auto offered = source->enumerate(problem, target);
    if (const auto* refused = std::get_if<Unsupported>(&offered)) {
      if (!options.source.empty())
        std::printf("%s: unsupported: %s\n", std::string(source->name()).c_str(), refused->reason.c_str());
      continue;
    }
    for (const std::string& config : std::get<std::vector<std::string>>(offered))
      candidates.push_back({source, config, source->compile(problem, config, target), nullptr, {}});
  }
  return candidates;
}

// All the device code that the problems may need, in parallel: one after the other would take longer than measuring.
void compile_code(const std::vector<Problem>& problems, const Target& target, const Options& options) {
  std::vector<DeviceModule> modules;
  for (const Problem& problem : problems)
    for (const Candidate& candidate : candidates_for(problem, target, options))
      for (const DeviceModule& module : candidate.tactic.modules)
        if (std::find(modules.begin(), modules.end(), module) == modules.end()) modules.push_back(module);
  ThreadPool threads(usable_cpus());
  compile_all(modules, threads);
}

// Prints one line; the library's time over ours, or 0 without both.
double measure(const Problem& problem, const Target& target, TacticBench& bench, const Options& options) {
  bench.begin(problem);
  std::vector<Candidate> candidates = candidates_for(problem, target, options);
  for (Candidate& candidate : candidates) candidate.contestant = bench.enter(candidate.tactic);
  for (int round = 0; round < options.rounds; ++round)
    for (Candidate& candidate : candidates) candidate.times.push_back(candidate.contestant->turn(1e12));
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.median() < b.median(); });
  const double tera = problem.op.flops(problem.inputs) / 1e6;
  const auto library = std::find_if(candidates.begin(), candidates.end(), is_library);
  const auto own = std::find_if_not(candidates.begin(), candidates.end(), is_library);
  std::printf("%-50s", problem.key().c_str());
  if (library != candidates.end())
    std::printf(" cublaslt %9.2f us %4.0f TF", library->median(), tera / library->median());
  if (own != candidates.end())
    std::printf("  own %9.2f us %4.0f TF  %s %s", own->median(), tera / own->median(),
                std::string(own->source->name()).c_str(), own->config.c_str());
  const bool both = library != candidates.end() && own != candidates.end();
  const double ratio = both ? library->median() / own->median() : 0;
  if (both) std::printf("  %.3f", ratio);
  std::printf("\n");
  if (options.all)
    for (const Candidate& candidate : candidates)
      std::printf("  %9.2f us  %s %s\n", candidate.median(), std::string(candidate.source->name()).c_str(),
                  candidate.config.c_str());
  std::fflush(stdout);
  return ratio;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] {
      if (i + 1 == argc) fail(ErrorCode::kUsage, "{} needs a value", word);
      return std::string(argv[++i]);
    };
    if (word == "--rounds") {
      options.rounds = std::max(1, std::atoi(value().c_str()));
    } else if (word == "--dtype") {
      options.dtype = value();
    } else if (word == "--source") {
      options.source = value();
    } else if (word == "--problem") {
      options.problems.push_back(value());
    } else if (word == "--all") {
      options.all = true;
    } else if (const size_t cross = word.find('x'); cross != std::string::npos) {
      options.shapes.push_back({std::atoll(word.c_str()), std::atoll(word.c_str() + cross + 1)});
    } else {
      options.rows.push_back(std::atoll(word.c_str()));
    }
  }
  if (options.shapes.empty())
    options.shapes = {{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}, {128256, 4096}};
  if (options.rows.empty()) options.rows = {64, 128, 256, 512, 1024, 2048, 4096, 8192};
  return options;
}

}  // namespace

int main(int argc, char** argv) try {
  Options options = parse(argc, argv);
  if (options.problems.empty())
    for (const auto& [n, k] : options.shapes)
      for (int64_t rows : options.rows)
        options.problems.push_back(format("matmul {0}[{1}, {3}] {0}[{2}, {3}]", options.dtype, rows, n, k));
  const Target target = parse_target("cuda", 1);
  const std::unique_ptr<TacticBench> bench = make_cuda_bench();
  std::vector<Problem> problems;
  problems.reserve(options.problems.size());
  for (const std::string& text : options.problems) problems.push_back(parse_problem(text));
  compile_code(problems, target, options);
  double sum = 0;
  int count = 0;
  for (const Problem& problem : problems) {
    const double ratio = measure(problem, target, *bench, options);
    if (ratio > 0) sum += std::log(ratio), ++count;
  }
  if (count > 0) std::printf("own speed / cublaslt, geometric mean over %d: %.4f\n", count, std::exp(sum / count));
  return 0;
} catch (const Error& error) {
  std::fprintf(stderr, "bench_cuda_matmul: %s\n", error.what());
  return 1;
}
