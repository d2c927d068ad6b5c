// Measures every tactic of problems on the GPU, and compares the best of our own kernels with the best of cuBLASLt.
//   bench_gpu_tactics [--all] [--rounds N] [--context N] [--sample OPTIONS] [PROBLEM ...]
// Without problems, the linear layers of Llama-3.1-8B in bf16 at 1 to 8192 rows. Weights and KV caches are read from
// memory that no cache holds. --all prints every candidate.
// Attention: every sequence has a context of N positions, in scattered pages; without --context the listed pages are
// full. Choosing tokens: every row is chosen as OPTIONS say, such as "temperature=1 top_k=50"; without, the likeliest.
// The two are launched behind each other for milliseconds, in a graph.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "inspect/ceilings_cuda.h"
#include "ops/attention.h"
#include "ops/sample.h"
#include "tactics/cuda/device_code.h"
#include "tune/tactic_bench.h"

using namespace ingot;

namespace {

// What takes longer for some inputs than for others.
struct Wanted {
  int64_t context = 0;  // of every sequence; 0: what the listed pages hold
  double options[sample::kOptions] = {0, 1, 0, 1, 0, 0};
  int64_t top_k = 0, logprobs = -1;
};

// "temperature=1 top_k=50"
void read_options(std::string_view text, Wanted& wanted) {
  constexpr std::string_view kNames[] = {"temperature", "top_p", "min_p"};
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    const size_t equals = word.find('=');
    if (equals == std::string_view::npos) fail(ErrorCode::kUsage, "\"{}\" is not NAME=VALUE", word);
    const std::string_view name = word.substr(0, equals);
    const std::string value(word.substr(equals + 1));
    char* end = nullptr;
    const double number = std::strtod(value.c_str(), &end);
    if (value.empty() || *end != '\0') fail(ErrorCode::kUsage, "\"{}\" is not NAME=NUMBER", word);
    if (const auto* at = std::ranges::find(kNames, name); at != std::end(kNames))
      wanted.options[at - kNames] = number;
    else if (name == "top_k")
      wanted.top_k = static_cast<int64_t>(number);
    else if (name == "logprobs")
      wanted.logprobs = static_cast<int64_t>(number);
    else
      fail(ErrorCode::kUsage, "{} is none of temperature, top_p, min_p, top_k, logprobs", name);
  }
}

int64_t size_of(const Problem& problem, size_t input, size_t axis) {
  return problem.inputs[input].shape[axis].constant();
}

void set(const Problem& problem, Inputs& inputs, size_t input, int64_t at, double value) {
  store_element(problem.inputs[input].dtype, inputs.data(input), at, value);
}

void set_contexts(const Problem& problem, Inputs& inputs, int64_t context) {
  const int64_t sequences = size_of(problem, 4, 0), page_size = size_of(problem, 1, 2);
  const int64_t pages = (context + page_size - 1) / page_size;
  if (pages * sequences > size_of(problem, 6, 0))
    fail(ErrorCode::kUsage, "{}: {} contexts of {} need {} listed pages", problem.key(), sequences, context,
         pages * sequences);
  for (int64_t s = 0; s < sequences; ++s) {
    const TensorView starts = inputs.view(3);
    if (starts[s + 1] - starts[s] > static_cast<double>(context))
      fail(ErrorCode::kUsage, "{}: a context of {} is shorter than a sequence's tokens", problem.key(), context);
    set(problem, inputs, 4, s, static_cast<double>(context));
    set(problem, inputs, 5, s + 1, static_cast<double>((s + 1) * pages));
    set(problem, inputs, 7, s, 0);
  }
}

// Logits that make a row hard for a check give way to those of the row in front, the first being a plain one.
void set_rows(const Problem& problem, Inputs& inputs, const Wanted& wanted) {
  const int64_t rows = size_of(problem, 0, 0), vocab = size_of(problem, 0, 1), seats = size_of(problem, 4, 0);
  auto* logits = reinterpret_cast<float*>(inputs.data(0));
  for (int64_t row = 0; row < rows; ++row) {
    float* own = logits + row * vocab;
    if (row > 0 && std::find(own, own + vocab, -INFINITY) != own + vocab) std::copy(own - vocab, own, own);
    for (int64_t i = 0; i < sample::kOptions; ++i)
      set(problem, inputs, 1, row * sample::kOptions + i, wanted.options[i]);
    const auto choose = [&](sample::Choice column, int64_t value) {
      set(problem, inputs, 2, row * sample::kChoices + column, static_cast<double>(value));
    };
    choose(sample::kSeat, row < seats ? row : -1);
    choose(sample::kTopK, wanted.top_k);
    choose(sample::kListedBegin, 0), choose(sample::kListedEnd, 0);
    choose(sample::kPending, 0);
    choose(sample::kLogprobs, wanted.logprobs);
  }
}

std::optional<Inputs> wanted_inputs(const Problem& problem, const Wanted& wanted) {
  if (!problem.op.is<Attention>() && !problem.op.is<Sample>()) return std::nullopt;
  Inputs inputs = make_inputs(problem, 1, 0);
  if (problem.op.is<Sample>())
    set_rows(problem, inputs, wanted);
  else if (wanted.context > 0)
    set_contexts(problem, inputs, wanted.context);
  return inputs;
}

// What such a launch has to read: the keys and values that its tokens see, or logits, which are warm.
double bytes_read(const Problem& problem, const Wanted& wanted) {
  if (problem.op.is<Sample>()) return static_cast<double>(problem.inputs[0].bytes());
  const std::optional<Inputs> inputs = wanted_inputs(problem, wanted);
  const int64_t window = problem.op.as<Attention>()->window;
  double positions = 0, bytes = 0;
  for (int64_t s = 0; s < size_of(problem, 4, 0); ++s) {
    const double tokens = inputs->view(3)[s + 1] - inputs->view(3)[s];
    const double held = inputs->view(4)[s] - inputs->view(7)[s];
    positions += tokens == 0 ? 0 : window > 0 ? std::min(held, static_cast<double>(window - 1) + tokens) : held;
  }
  for (size_t state : {1, 2})
    bytes += positions * static_cast<double>(problem.inputs[state].bytes()) /
             static_cast<double>(size_of(problem, state, 0) * size_of(problem, state, 2));
  return bytes;
}

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

// Rows of two tables; a heading goes in front of the first row of each.
class Tables {
 public:
  explicit Tables(const CudaCeilings& ceilings) : ceilings_(ceilings) {}

  void add_product(const std::string& text, const Problem& problem, const Candidate* own, const Candidate* library) {
    heading("| problem | own us | cuBLASLt us | cuBLASLt / own | best: share of reads | of products | own tactic |");
    const double best = std::min(own ? own->microseconds : 1e300, library ? library->microseconds : 1e300);
    const double ratio = own && library ? library->microseconds / own->microseconds : 0;
    if (ratio > 0) logarithms_ += std::log(ratio), ++compared_;
    std::printf("| %s | %.2f | %.2f | %.3f | %.1f %% | %.1f %% | %s |\n", text.c_str(), own ? own->microseconds : 0,
                library ? library->microseconds : 0, ratio,
                100 * streamed_bytes(problem) / best / 1e-6 / ceilings_.read_bytes_per_second,
                100 * problem.op.flops(problem.inputs) / best / 1e-6 / std::max(1.0, ceilings_.matmul_flops),
                own ? own->name.c_str() : "none");
  }
  void add_reader(const std::string& text, double bytes, const Candidate& best) {
    heading("| problem | us | MB read | GB/s | share of reads | tactic |");
    const double rate = bytes / best.microseconds / 1e-6;
    std::printf("| %s | %.2f | %.2f | %.0f | %.1f %% | %s |\n", text.c_str(), best.microseconds, bytes / 1e6,
                rate / 1e9, 100 * rate / ceilings_.read_bytes_per_second, best.name.c_str());
  }
  void finish() const {
    if (compared_ > 0)
      std::printf("geometric mean of cuBLASLt / own over %d problems: %.3f\n", compared_,
                  std::exp(logarithms_ / compared_));
  }

 private:
  void heading(std::string_view text) {
    if (heading_ == text) return;
    heading_ = text;
    std::printf("%s\n", heading_.c_str());
    for (ptrdiff_t i = 1; i < std::ranges::count(text, '|'); ++i) std::printf("|---");
    std::printf("|\n");
  }

  const CudaCeilings& ceilings_;
  std::string heading_;
  double logarithms_ = 0;
  int compared_ = 0;
};

void run(const std::vector<std::string>& problems, const Wanted& wanted, bool all, int rounds) {
  const Target target = parse_target("cuda", 1);
  CudaCeilings ceilings;
  {
    const CudaCeilingMeter meter(cuda::Device::open());
    ceilings = meter.ceilings();
  }
  std::printf("%s: read %.2f TB/s, %.0f TFLOP/s\n", ceilings.device.c_str(), ceilings.read_bytes_per_second / 1e12,
              ceilings.matmul_flops / 1e12);
  Tables tables(ceilings);
  const auto products = make_cuda_bench();
  const auto readers = make_cuda_bench({.inputs = [&](const Problem& p) { return wanted_inputs(p, wanted); },
                                        .turn_microseconds = 3000,
                                        .most_repeats = 200});
  ThreadPool threads(usable_cpus());
  for (const std::string& text : problems) {
    const Problem problem = parse_problem(text);
    const bool reads = problem.op.is<Attention>() || problem.op.is<Sample>();
    std::vector<Candidate> candidates = candidates_of(problem, target);
    compile_modules(candidates, threads);
    measure(reads ? *readers : *products, problem, candidates, rounds);
    const Candidate *own = best_of(candidates, false), *library = best_of(candidates, true);
    if (!own && !library) fail(ErrorCode::kIncompatible, "{}: no tactic for {}", text, target.cuda_arch);
    if (reads)
      tables.add_reader(text, bytes_read(problem, wanted), *own);
    else
      tables.add_product(text, problem, own, library);
    for (const Candidate& candidate : candidates)
      if (all) std::printf("    %10.2f us  %s\n", candidate.microseconds, candidate.name.c_str());
    std::fflush(stdout);
  }
  tables.finish();
}

}  // namespace

int main(int argc, char** argv) try {
  std::vector<std::string> problems;
  Wanted wanted;
  bool all = false;
  int rounds = 3;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--all") == 0) {
      all = true;
    } else if (std::strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
      rounds = std::max(1, std::atoi(argv[++i]));
    } else if (std::strcmp(argv[i], "--context") == 0 && i + 1 < argc) {
      wanted.context = std::atoll(argv[++i]);
    } else if (std::strcmp(argv[i], "--sample") == 0 && i + 1 < argc) {
      read_options(argv[++i], wanted);
    } else {
      problems.emplace_back(argv[i]);
    }
  }
  run(problems.empty() ? llama_problems() : problems, wanted, all, rounds);
  return 0;
} catch (const Error& error) {
  std::fprintf(stderr, "bench_gpu_tactics: %s\n", error.what());
  return static_cast<int>(error.code());
}
