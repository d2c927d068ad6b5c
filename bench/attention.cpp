// Speed of the CPU attention kernels: bench_attention [tokens context heads kv_heads head_size sequences threads
// dtype]. Each sequence has `tokens` queries, the last of a context of `context` positions. GB/s counts K and V once.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "device/target.h"
#include "kernels/cpu/attention.h"
#include "kernels/kernel.h"
#include "ops/attention.h"

namespace ingot {
namespace {

struct Setup {
  int64_t tokens = 512, context = 512, heads = 32, kv_heads = 8, head_size = 64, sequences = 1, threads = 2;
  DType dtype = DType::kBF16;
};

constexpr int64_t kPageSize = 16;

struct Step {
  std::vector<float> q, y;
  std::vector<uint32_t> k, v;  // large enough for f32
  std::vector<int32_t> query_starts, lengths, page_starts, pages, context_starts;
  std::vector<Argument> arguments;
};

Step make_step(const Setup& s) {
  Step step;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const int64_t pages = (s.context + kPageSize - 1) / kPageSize, pool = pages * s.sequences;
  step.q.resize(static_cast<size_t>(s.tokens * s.sequences * s.heads * s.head_size));
  step.y.resize(step.q.size());
  for (float& value : step.q) value = normal(random);
  const int64_t state_size = pool * s.kv_heads * kPageSize * s.head_size;
  for (auto* state : {&step.k, &step.v}) {
    state->resize(static_cast<size_t>(state_size));
    for (int64_t i = 0; i < state_size; ++i) store_element(s.dtype, state->data(), i, normal(random));
  }
  for (int64_t i = 0; i <= s.sequences; ++i) {
    step.query_starts.push_back(static_cast<int32_t>(i * s.tokens));
    step.page_starts.push_back(static_cast<int32_t>(i * pages));
  }
  step.lengths.assign(static_cast<size_t>(s.sequences), static_cast<int32_t>(s.context));
  step.context_starts.assign(static_cast<size_t>(s.sequences), 0);
  for (int64_t i = 0; i < pool; ++i) step.pages.push_back(static_cast<int32_t>(i * 7919 % pool));
  const int64_t rows = s.tokens * s.sequences;
  auto add = [&](void* data, DType dtype, std::array<int64_t, 4> size, int rank) {
    step.arguments.push_back({data, dtype, rank, size});
  };
  add(step.q.data(), DType::kF32, {rows, s.heads * s.head_size}, 2);
  for (auto* state : {&step.k, &step.v}) add(state->data(), s.dtype, {pool, s.kv_heads, kPageSize, s.head_size}, 4);
  add(step.query_starts.data(), DType::kI32, {s.sequences + 1}, 1);
  add(step.lengths.data(), DType::kI32, {s.sequences}, 1);
  add(step.page_starts.data(), DType::kI32, {s.sequences + 1}, 1);
  add(step.pages.data(), DType::kI32, {pool}, 1);
  add(step.context_starts.data(), DType::kI32, {s.sequences}, 1);
  add(step.y.data(), DType::kF32, {rows, s.heads * s.head_size}, 2);
  return step;
}

void measure(const Setup& s, const Step& step, CpuLevel level) {
  const AttentionParameters parameters{.heads = s.heads,
                                       .scale = 1 / std::sqrt(static_cast<float>(s.head_size)),
                                       .threads = static_cast<int>(s.threads),
                                       .partial_floats = int64_t{4} << 20};
  const int64_t bytes = attention_scratch_bytes(parameters, level, s.head_size, s.head_size, s.sequences);
  std::vector<std::byte> scratch(static_cast<size_t>(bytes) + 64);
  auto aligned = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64);
  ThreadPool pool(static_cast<int>(s.threads));
  auto kernel = make_kernel("cpu.attention_" + std::string(enum_name(level)), print_fields(parameters));
  double best = 1e9;
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < std::chrono::milliseconds(700)) {
    const auto before = std::chrono::steady_clock::now();
    kernel->run({step.arguments, aligned, &pool});
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count());
  }
  const auto product = [](auto... factors) { return (static_cast<double>(factors) * ...); };
  const double seen = static_cast<double>(s.context) - static_cast<double>(s.tokens - 1) / 2;
  const double flops = product(4, s.sequences, s.tokens, s.heads, s.head_size) * seen;
  const double read = product(2, s.sequences, s.context, s.kv_heads, s.head_size, size_of(s.dtype));
  std::printf("%-9s %9.1f us  %7.1f GFLOP/s  %6.2f GB/s\n", std::string(enum_name(level)).c_str(), best * 1e6,
              flops / best * 1e-9, read / best * 1e-9);
}

}  // namespace
}  // namespace ingot

int main(int count, char** values) {
  using namespace ingot;
  Setup s;
  int64_t* numbers[] = {&s.tokens, &s.context, &s.heads, &s.kv_heads, &s.head_size, &s.sequences, &s.threads};
  for (int i = 1; i < count && i <= 7; ++i) *numbers[i - 1] = std::atoll(values[i]);
  if (count > 8) s.dtype = parse_user_dtype(values[8]);
  const Step step = make_step(s);
  std::printf("%lld queries x %lld sequences, context %lld, heads %lld/%lld x %lld, %lld threads\n",
              static_cast<long long>(s.tokens), static_cast<long long>(s.sequences), static_cast<long long>(s.context),
              static_cast<long long>(s.heads), static_cast<long long>(s.kv_heads), static_cast<long long>(s.head_size),
              static_cast<long long>(s.threads));
  for (CpuLevel level : {CpuLevel::kAmx, CpuLevel::kAvx512, CpuLevel::kAvx2, CpuLevel::kPortable})
    if (level <= cpu_features().level && (level != CpuLevel::kAmx || s.dtype == DType::kBF16)) measure(s, step, level);
}
