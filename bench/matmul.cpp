// Measures matmul tactics against the ceilings of this machine, alternating with them.
//   bench_matmul 'matmul f32[1, 2048] bf16[16384, 2048]' [source [config]] [--threads N] [--rounds N] [--hot]
// Without a configuration every one that the source offers is measured; without a source, all sources. Weights rotate
// through copies that exceed every cache, unless --hot. The shares are medians over the rounds, each round next to its
// own ceiling.
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>

#include "base/error.h"
#include "inspect/ceilings.h"
#include "kernels/kernel.h"
#include "kernels/weight_layout.h"
#include "tactics/tactic.h"

using namespace ingot;

namespace {

// One thread is timed by what it computes, as the ceilings are: that holds on a busy machine.
double seconds_now(const ThreadPool& threads) {
  timespec now{};
  clock_gettime(threads.size() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Small pages, as a mapped engine file has them.
std::byte* allocate(int64_t bytes) {
  void* memory =
      mmap(nullptr, static_cast<size_t>(bytes) + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail(ErrorCode::kDoesNotFit, "no memory for {}", print_bytes(static_cast<double>(bytes)));
  return static_cast<std::byte*>(memory);
}

void fill(const TensorType& type, std::byte* out, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> block(65537);  // an odd period, repeated: drawing gigabytes would take minutes
  for (float& value : block) value = normal(engine);
  for (int64_t i = 0, count = type.elements(); i < count; i += 65537)
    convert(DType::kF32, block.data(), type.dtype, out + i * size_of(type.dtype), std::min<int64_t>(65537, count - i));
}

struct Workload {
  Problem problem;
  int64_t copies = 1;
  std::vector<std::byte*> tensors;  // inputs but the weight, output; the weight's entry is its row-major form
  std::vector<std::byte*> weights;  // copies in the layout `layout`
  std::string layout = "?";
  int64_t weight_bytes = 0;
};

void prepare(Workload& work, int64_t rotated_bytes) {
  for (size_t i = 0; i < work.problem.inputs.size(); ++i) {
    work.tensors.push_back(allocate(work.problem.inputs[i].bytes()));
    fill(work.problem.inputs[i], work.tensors.back(), i + 1);
  }
  work.tensors.push_back(allocate(work.problem.outputs[0].bytes()));
  work.weight_bytes = work.problem.inputs[1].bytes();
  work.copies = std::max<int64_t>(1, rotated_bytes / work.weight_bytes);
}

void pack(Workload& work, const std::string& name) {
  if (work.layout == name) return;
  const TensorType& type = work.problem.inputs[1];
  const WeightLayout* layout = name.empty() ? nullptr : find_weight_layout(name);
  int64_t bytes = layout ? layout->packed_bytes(type) : type.bytes();
  for (std::byte* old : work.weights) munmap(old, static_cast<size_t>(bytes) + 4096);
  work.weights.clear();
  int64_t n = type.shape[0].constant(), k = type.shape[1].constant(), row_bytes = k * size_of(type.dtype);
  for (int64_t copy = 0; copy < work.copies; ++copy) {
    std::byte* out = allocate(bytes);
    work.weights.push_back(out);
    if (!layout) {
      std::memcpy(out, work.tensors[1], static_cast<size_t>(bytes));
      continue;
    }
    int64_t blocks = (n + layout->rows_per_block - 1) / layout->rows_per_block;
    for (int64_t block = 0; block < blocks; ++block) {
      int64_t row = block * layout->rows_per_block;
      layout->pack(type.dtype, work.tensors[1] + row * row_bytes, std::min(layout->rows_per_block, n - row), k,
                   out + block * (bytes / blocks));
    }
  }
  work.layout = name;
}

Argument argument(const TensorType& type, void* data) {
  Argument a{data, type.dtype, static_cast<int>(type.rank())};
  for (size_t i = 0; i < type.shape.size(); ++i) a.size[i] = type.shape[i].constant();
  return a;
}

void measure(Workload& work, const TacticSource& source, const std::string& config, const Target& target,
             ThreadPool& threads, CpuCeilingMeter& meter, int rounds) {
  CompiledTactic tactic = source.compile(work.problem, config, target);
  pack(work, tactic.input_layouts[1]);
  auto kernel = make_kernel(tactic.steps[0].kernel, tactic.steps[0].parameters);
  std::byte* scratch = allocate(tactic.scratch_bytes + 64);
  size_t inputs = work.problem.inputs.size();
  std::vector<Argument> arguments;
  for (int index : tactic.steps[0].arguments) {
    auto i = static_cast<size_t>(index);
    arguments.push_back(argument(i < inputs ? work.problem.inputs[i] : work.problem.outputs[0], work.tensors[i]));
  }
  size_t copy = 0;
  auto run_once = [&] {
    arguments[1].data = work.weights[copy++ % work.weights.size()];
    kernel->run({arguments, scratch, &threads});
  };
  run_once();
  std::vector<double> times, read_shares, flop_shares;
  double flops = work.problem.op.flops(work.problem.inputs), read = 0, peak = 0;
  for (int round = 0; round < rounds; ++round) {
    read = meter.measure_read();
    peak = meter.measure_matmul();
    double begin = seconds_now(threads), seconds = 0;
    int64_t calls = 0;
    do {
      run_once();
      ++calls;
      seconds = seconds_now(threads) - begin;
    } while (seconds < 0.05 || calls < 2);
    double each = seconds / static_cast<double>(calls);
    times.push_back(each);
    read_shares.push_back(static_cast<double>(work.weight_bytes) / each / read);
    flop_shares.push_back(flops / each / peak);
  }
  double time = median(times);
  double fastest = *std::min_element(times.begin(), times.end());
  std::printf("%9.1f us (best %9.1f) %7.2f GB/s %5.1f%%  %8.1f GFLOP/s %5.1f%%  %s %s\n", time * 1e6, fastest * 1e6,
              static_cast<double>(work.weight_bytes) / time / 1e9, 100 * median(read_shares), flops / time / 1e9,
              100 * median(flop_shares), std::string(source.name()).c_str(), config.c_str());
  std::fflush(stdout);
  munmap(scratch, static_cast<size_t>(tactic.scratch_bytes) + 64 + 4096);
}

}  // namespace

int main(int argc, char** argv) try {
  std::vector<std::string> words;
  int threads = usable_cpus(), rounds = 7;
  int64_t rotated_bytes = int64_t{640} << 20;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    if (word == "--threads" && i + 1 < argc) {
      threads = std::max(1, std::atoi(argv[++i]));
    } else if (word == "--rounds" && i + 1 < argc) {
      rounds = std::max(1, std::atoi(argv[++i]));
    } else if (word == "--hot") {
      rotated_bytes = 0;
    } else {
      words.push_back(word);
    }
  }
  if (words.empty() || words.size() > 3) {
    std::fprintf(stderr, "usage: bench_matmul PROBLEM [SOURCE [CONFIG]] [--threads N] [--rounds N] [--hot]\n");
    return 2;
  }
  ThreadPool pool(threads);
  Target target = parse_target("cpu", threads);
  CpuCeilingMeter meter(pool, target.cpu_level, int64_t{1} << 29, 2);
  const CpuCeilings& best = meter.ceilings();
  std::printf("read %.2f GB/s (%s), peak %.1f GFLOP/s (%s)\n", best.read_bytes_per_second / 1e9, best.read_name.c_str(),
              best.matmul_flops / 1e9, best.matmul_name.c_str());
  Workload work;
  work.problem = parse_problem(words[0]);
  prepare(work, rotated_bytes);
  std::vector<std::tuple<std::string, const TacticSource*, std::string>> todo;  // by layout: packing takes long
  for (const TacticSource* source : tactic_list()) {
    if (words.size() > 1 && source->name() != words[1]) continue;
    auto offered = source->enumerate(work.problem, target);
    if (auto* refused = std::get_if<Unsupported>(&offered)) {
      if (words.size() > 1) std::printf("%s: unsupported: %s\n", words[1].c_str(), refused->reason.c_str());
      continue;
    }
    for (const std::string& config : std::get<std::vector<std::string>>(offered))
      if (words.size() < 3)
        todo.emplace_back(source->compile(work.problem, config, target).input_layouts[1], source, config);
    if (words.size() == 3) todo.emplace_back("", source, words[2]);
  }
  std::stable_sort(todo.begin(), todo.end(),
                   [](const auto& a, const auto& b) { return std::get<0>(a) < std::get<0>(b); });
  for (const auto& [layout, source, config] : todo) measure(work, *source, config, target, pool, meter, rounds);
  return 0;
} catch (const Error& error) {
  std::fprintf(stderr, "bench_matmul: %s\n", error.what());
  return 1;
}
