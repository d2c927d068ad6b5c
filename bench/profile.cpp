// Where a step's time goes: runs prefills and decodes of an engine and prints the launches by op and problem, each with
// its arithmetic rate, the bytes that it must read (weights, keys and values) and the rate of that as a share of the
// read ceiling. `bench_profile ENGINE_DIR [--prompt N] [--new N] [--threads N]`
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>

#include "base/error.h"
#include "generate/token_session.h"
#include "inspect/ceilings_cuda.h"
#include "inspect/step_cost.h"

using namespace ingot;

namespace {

struct Total {
  double microseconds = 0, flops = 0, bytes = 0;
  int64_t runs = 0;
};

// The launches of one phase, by problem and tactic.
class Profile {
 public:
  Profile(const Plan& plan, int64_t sequences, int64_t tokens, int64_t context)
      : plan_(plan), sequences_(sequences), tokens_(tokens), context_(context) {}

  void add(const ObservedStep& observed) {
    if (&observed.program != program_) {
      program_ = &observed.program;
      costs_ = launch_costs(plan_, *program_, sequences_, tokens_, context_);
    }
    Total& total = totals_[observed.step.problem + "  " + observed.step.tactic];
    total.microseconds += observed.microseconds;
    total.flops += costs_[observed.index].flops;
    total.bytes += costs_[observed.index].bytes;
    ++total.runs;
  }

  void print(const char* title, int64_t repetitions, double read_ceiling) const {
    std::vector<std::pair<std::string, Total>> rows(totals_.begin(), totals_.end());
    std::sort(rows.begin(), rows.end(), [](auto& a, auto& b) { return a.second.microseconds > b.second.microseconds; });
    double sum = 0;
    for (auto& [name, total] : rows) sum += total.microseconds;
    const double runs = static_cast<double>(repetitions);
    std::printf("%s: %.3f ms in launches; read ceiling %.1f GB/s\n", title, sum / 1e3 / runs, read_ceiling / 1e9);
    std::printf(
        "| us | share | launches | us each | MB read | GB/s | of the ceiling | GFLOP/s | problem and tactic |\n");
    std::printf("|---|---|---|---|---|---|---|---|---|\n");
    for (auto& [name, t] : rows) {
      const double rate = t.bytes / t.microseconds * 1e6;
      std::printf("| %.1f | %.1f %% | %.1f | %.2f | %.2f | %.1f | %.1f %% | %.1f | %s |\n", t.microseconds / runs,
                  100 * t.microseconds / sum, static_cast<double>(t.runs) / runs,
                  t.microseconds / static_cast<double>(t.runs), t.bytes / runs / 1e6, rate / 1e9,
                  100 * rate / read_ceiling, t.flops / t.microseconds / 1e3, name.c_str());
    }
  }

 private:
  const Plan& plan_;
  int64_t sequences_, tokens_, context_;
  const Program* program_ = nullptr;
  std::vector<StepCost> costs_;
  std::map<std::string, Total> totals_;
};

// Measured before the session takes its memory.
double read_ceiling(const LoadedEngine& engine) {
  if (engine.device()) return CudaCeilingMeter(engine.device()).ceilings().read_bytes_per_second;
  ThreadPool threads(usable_cpus());
  return quick_read_rate(threads, cpu_features().level);
}

int64_t option(int argc, char** argv, const char* name, int64_t otherwise) {
  for (int i = 2; i + 1 < argc; ++i)
    if (std::strcmp(argv[i], name) == 0) return std::atoll(argv[i + 1]);
  return otherwise;
}

void profile(int argc, char** argv) {
  const int64_t batch = option(argc, argv, "--batch", 1), prompt = option(argc, argv, "--prompt", 512),
                answer = option(argc, argv, "--new", 16), repetitions = option(argc, argv, "--repetitions", 3);
  TokenSessionOptions options;
  options.runner.threads = static_cast<int>(option(argc, argv, "--threads", 0));
  options.eos_ids = std::vector<int32_t>{};
  options.run_ahead = false;  // a step belongs to the call that tells of it
  const auto engine = LoadedEngine::load(argv[1]);
  const double ceiling = read_ceiling(*engine);
  TokenSession session(engine, options);
  Profile prefill(engine->plan(), 1, prompt, prompt), decode(engine->plan(), batch, 1, prompt + answer / 2);
  Profile* into = nullptr;
  session.runner().context().observe([&](const ObservedStep& observed) {
    if (into) into->add(observed);
  });
  for (int64_t r = 0; r <= repetitions; ++r) {
    std::vector<uint64_t> ids;
    for (int64_t b = 0; b < batch; ++b) {
      TokenRequest request;
      for (int64_t i = 0; i < prompt; ++i)
        request.ids.push_back(static_cast<int32_t>((i * 7919 + r + 31 * b) % session.vocab_size()));
      // None ends before all have decoded: the first ones do while the others' prompts run.
      request.params.max_tokens = answer + 1 + batch + batch * prompt / session.limits().max_num_tokens;
      request.params.ignore_eos = true;
      ids.push_back(session.submit(request));
    }
    into = r == 0 ? nullptr : &prefill;
    std::set<uint64_t> waiting(ids.begin(), ids.end());
    while (!waiting.empty())
      for (const TokenEvent& event : session.step()) waiting.erase(event.request);
    into = r == 0 ? nullptr : &decode;
    for (int64_t i = 0; i < answer; ++i) session.step();
    for (uint64_t id : ids) session.cancel(id);
  }
  if (batch == 1 && prompt <= session.limits().max_num_tokens) prefill.print("prefill", repetitions, ceiling);
  decode.print("decode step", repetitions * answer, ceiling);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(
        stderr, "usage: bench_profile ENGINE_DIR [--batch N] [--prompt N] [--new N] [--repetitions N] [--threads N]\n");
    return 2;
  }
  try {
    profile(argc, argv);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  }
}
