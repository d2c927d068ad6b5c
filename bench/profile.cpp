// Where a step's time goes: runs prefills and decodes of an engine and prints the steps by op and problem, with the
// arithmetic rate of each. `bench_profile ENGINE_DIR [--prompt N] [--new N] [--threads N]`
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>

#include "base/error.h"
#include "generate/token_session.h"
#include "tactics/tactic.h"

using namespace ingot;

namespace {

struct Total {
  double microseconds = 0, flops = 0, bytes = 0;
  int64_t runs = 0;
};

using Totals = std::map<std::string, Total>;

// The problem of a step at its actual sizes.
Problem actual_problem(const ObservedStep& observed) {
  Problem problem = parse_problem(observed.step.problem);
  for (size_t i = 0; i < problem.inputs.size() && i < observed.arguments.size(); ++i)
    for (size_t d = 0; d < problem.inputs[i].shape.size(); ++d)
      problem.inputs[i].shape[d] = Dim(observed.arguments[i].size[d]);
  return problem;
}

void print_totals(const char* title, const Totals& totals, int64_t repetitions) {
  std::vector<std::pair<std::string, Total>> rows(totals.begin(), totals.end());
  std::sort(rows.begin(), rows.end(), [](auto& a, auto& b) { return a.second.microseconds > b.second.microseconds; });
  double sum = 0;
  for (auto& [name, total] : rows) sum += total.microseconds;
  std::printf("%s: %.2f ms in steps\n", title, sum / 1e3 / static_cast<double>(repetitions));
  for (auto& [name, total] : rows)
    std::printf("  %8.2f ms %5.1f %% %5lld x %8.1f us %8.1f GFLOP/s %7.2f GB/s  %s\n",
                total.microseconds / 1e3 / static_cast<double>(repetitions), 100 * total.microseconds / sum,
                static_cast<long long>(total.runs / repetitions), total.microseconds / static_cast<double>(total.runs),
                total.flops / total.microseconds / 1e3, total.bytes / total.microseconds / 1e3, name.c_str());
}

int64_t option(int argc, char** argv, const char* name, int64_t otherwise) {
  for (int i = 2; i + 1 < argc; ++i)
    if (std::strcmp(argv[i], name) == 0) return std::atoll(argv[i + 1]);
  return otherwise;
}

void profile(int argc, char** argv) {
  int64_t prompt = option(argc, argv, "--prompt", 512), answer = option(argc, argv, "--new", 16), repetitions = 3;
  TokenSessionOptions options;
  options.runner.threads = static_cast<int>(option(argc, argv, "--threads", 0));
  options.eos_ids = std::vector<int32_t>{};
  TokenSession session(LoadedEngine::load(argv[1]), options);
  Totals prefill, decode;
  Totals* into = nullptr;
  session.runner().context().observe([&](const ObservedStep& observed) {
    if (!into) return;
    Problem problem = actual_problem(observed);
    Total& total = (*into)[problem.key() + "  " + observed.step.tactic];
    total.microseconds += observed.microseconds;
    total.flops += problem.op.flops(problem.inputs);
    for (const TensorType& type : problem.inputs) total.bytes += static_cast<double>(type.bytes());
    ++total.runs;
  });
  for (int64_t r = 0; r <= repetitions; ++r) {
    TokenRequest request;
    for (int64_t i = 0; i < prompt; ++i)
      request.ids.push_back(static_cast<int32_t>((i * 7919 + r) % session.vocab_size()));
    request.params.max_tokens = answer + 1;
    request.params.ignore_eos = true;
    session.submit(request);
    into = r == 0 ? nullptr : &prefill;
    while (session.step().empty()) {
    }
    into = r == 0 ? nullptr : &decode;
    while (!session.idle()) session.step();
  }
  print_totals("prefill", prefill, repetitions);
  print_totals("decode step", decode, repetitions * answer);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_profile ENGINE_DIR [--prompt N] [--new N] [--threads N]\n");
    return 2;
  }
  try {
    profile(argc, argv);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  }
}
