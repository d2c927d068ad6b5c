// Measures every tactic of problems on the GPU, and compares the best of our own kernels with the best of cuBLASLt.
//   bench_gpu_tactics [--all] [--rounds N] [PROBLEM ...]
// Without problems, the linear layers of Llama-3.1-8B in bf16 at 1 to 8192 rows. Weights and KV caches are read from
// memory that no cache holds. --all prints every candidate.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "inspect/ceilings_cuda.h"
#include "tactics/cuda/device_code.h"
#include "tune/tactic_bench.h"

using namespace ingot;

namespace {

struct Candidate {
  std::string name;
  bool library = false;
  CompiledTactic compiled;
  double microseconds = 1e300;
};

std::vector<std::string> llama_problems() {
  constexpr int64_t kShapes[][2] = {{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}, {128256, 4096}};
  std::vector<std::string> problems;
  for (const auto& [n, k] : kShapes)
    for (int64_t rows : {1, 4, 16, 64, 256, 1024, 2048, 8192})
      if (n < 100000 || rows <= 256)  // the head gives few rows
        problems.push_back(format("matmul bf16[{}, {}] bf16[{}, {}]", rows, k, n, k));
  return problems;
}

std::vector<Candidate> candidates_of(const Problem& problem, const Target& target) {
  std::vector<Candidate> candidates;
  for (const TacticSource* source : tactic_list()) {
    const auto offered = source->enumerate(problem, target);
    const auto* configs = std::get_if<std::vector<std::string>>(&offered);
    if (!configs) continue;
    for (const std::string& config : *configs)
      candidates.push_back({format("{} {}", source->name(), config), source->name() == "cuda.cublaslt",
                            source->compile(problem, config, target)});
  }
  return candidates;
}

void compile_modules(const std::vector<Candidate>& candidates, ThreadPool& threads) {
  std::vector<DeviceModule> modules;
  for (const Candidate& candidate : candidates)
    for (const DeviceModule& module : candidate.compiled.modules)
      if (std::find(modules.begin(), modules.end(), module) == modules.end()) modules.push_back(module);
  compile_all(modules, threads);
}

// All take turns.
void measure(TacticBench& bench, const Problem& problem, std::vector<Candidate>& candidates, int rounds) {
  bench.begin(problem);
  std::vector<std::unique_ptr<Contestant>> contestants;
  contestants.reserve(candidates.size());
  for (Candidate& candidate : candidates) contestants.push_back(bench.enter(candidate.compiled));
  for (int round = 0; round < rounds; ++round)
    for (size_t i = 0; i < candidates.size(); ++i) {
      const Scope scope(candidates[i].name);
      candidates[i].microseconds = std::min(candidates[i].microseconds, contestants[i]->turn(1e300));
    }
}

const Candidate* best_of(const std::vector<Candidate>& candidates, bool library) {
  const Candidate* best = nullptr;
  for (const Candidate& candidate : candidates)
    if (candidate.library == library && (!best || candidate.microseconds < best->microseconds)) best = &candidate;
  return best;
}

double streamed_bytes(const Problem& problem) {
  double bytes = 0;
  for (size_t i = 0; i < problem.inputs.size(); ++i)
    if (is_streamed(problem, i)) bytes += static_cast<double>(problem.inputs[i].bytes());
  return bytes;
}

void run(const std::vector<std::string>& problems, bool all, int rounds) {
  const Target target = parse_target("cuda", 1);
  CudaCeilings ceilings;
  {
    const CudaCeilingMeter meter(cuda::Device::open());
    ceilings = meter.ceilings();
  }
  std::printf("%s: read %.2f TB/s, %.0f TFLOP/s\n", ceilings.device.c_str(), ceilings.read_bytes_per_second / 1e12,
              ceilings.matmul_flops / 1e12);
  std::printf(
      "| problem | own us | cuBLASLt us | cuBLASLt / own | best: share of reads | of products | own tactic |\n");
  std::printf("|---|---|---|---|---|---|---|\n");
  auto bench = make_cuda_bench();
  ThreadPool threads(usable_cpus());
  double logarithms = 0;
  int compared = 0;
  for (const std::string& text : problems) {
    const Problem problem = parse_problem(text);
    std::vector<Candidate> candidates = candidates_of(problem, target);
    compile_modules(candidates, threads);
    measure(*bench, problem, candidates, rounds);
    const Candidate *own = best_of(candidates, false), *library = best_of(candidates, true);
    const double best = std::min(own ? own->microseconds : 1e300, library ? library->microseconds : 1e300);
    const double ratio = own && library ? library->microseconds / own->microseconds : 0;
    if (ratio > 0) logarithms += std::log(ratio), ++compared;
    std::printf("| %s | %.2f | %.2f | %.3f | %.1f %% | %.1f %% | %s |\n", text.c_str(), own ? own->microseconds : 0,
                library ? library->microseconds : 0, ratio,
                100 * streamed_bytes(problem) / best / 1e-6 / ceilings.read_bytes_per_second,
                100 * problem.op.flops(problem.inputs) / best / 1e-6 / std::max(1.0, ceilings.matmul_flops),
                own ? own->name.c_str() : "none");
    for (const Candidate& candidate : candidates)
      if (all) std::printf("    %10.2f us  %s\n", candidate.microseconds, candidate.name.c_str());
    std::fflush(stdout);
  }
  if (compared > 0)
    std::printf("geometric mean of cuBLASLt / own over %d problems: %.3f\n", compared, std::exp(logarithms / compared));
}

}  // namespace

int main(int argc, char** argv) try {
  std::vector<std::string> problems;
  bool all = false;
  int rounds = 3;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--all") == 0) {
      all = true;
    } else if (std::strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
      rounds = std::max(1, std::atoi(argv[++i]));
    } else {
      problems.emplace_back(argv[i]);
    }
  }
  run(problems.empty() ? llama_problems() : problems, all, rounds);
  return 0;
} catch (const Error& error) {
  std::fprintf(stderr, "bench_gpu_tactics: %s\n", error.what());
  return static_cast<int>(error.code());
}
