// ingot::estimate: from tensor headers and the configuration to memory and speed. Builds the plan without measuring and
// adds up.
#include <algorithm>
#include <optional>

#include "build/build.h"
#include "build/pretrained_model.h"
#include "ingot/inspect.h"
#include "inspect/ceilings_cuda.h"
#include "inspect/step_cost.h"
#include "runtime/memory.h"

namespace ingot {

namespace {

// Writing runs at about this share of reading when the files are in the page cache; a rough figure for a rough
// estimate.
constexpr double kWriteShare = 0.05;

// What the target can do.
struct Machine {
  std::string ceilings;  // where the rates are from
  int64_t memory_bytes = 0;
  double read_bytes_per_second = 0, matmul_flops = 0;  // 0: not known
};

// GPUs whose ceilings were measured with bench_ceilings, for estimates without one.
struct KnownGpu {
  std::string_view arch;
  Machine machine;
};
const KnownGpu kKnownGpus[] = {{"sm_90a", {"a table (NVIDIA H200)", int64_t{139} << 30, 4.67e12, 821e12}}};

// nullopt when the card that is here is not the target's or is taken up by others.
std::optional<Machine> measured_gpu(const Target& target) {
  constexpr int64_t kReadBytes = int64_t{2} << 30;
  if (!missing_for(target).empty()) return std::nullopt;
  const cuda::DevicePtr device = cuda::Device::open();
  const int64_t free = static_cast<int64_t>(device->free_bytes());
  if (free < 2 * kReadBytes) return std::nullopt;
  const CudaCeilingMeter meter(device, kReadBytes, 2);
  const CudaCeilings& ceilings = meter.ceilings();
  return Machine{"measured", free, ceilings.read_bytes_per_second, ceilings.matmul_flops};
}

Machine machine_of(const ResolvedConfig& resolved, double host_read_bytes_per_second) {
  const Target& target = resolved.target;
  if (target.kind == "cpu")
    return {"measured", static_cast<int64_t>(available_memory_bytes()), host_read_bytes_per_second, 0};
  if (auto measured = measured_gpu(target)) return *measured;
  for (const KnownGpu& gpu : kKnownGpus)
    if (gpu.arch == target.cuda_arch) return gpu.machine;
  return {"unknown", 0, 0, 0};
}

int64_t kv_bytes_per_token(const Plan& plan) {
  int64_t bytes = 0;
  for (const PlanState& state : plan.states) {
    int64_t page = size_of(state.type.dtype);
    for (size_t d = 1; d < state.type.shape.size(); ++d) page *= state.type.shape[d].constant();
    for (const CacheGroup& group : plan.groups)
      if (group.name == state.group) bytes += page / group.page_size;
  }
  return bytes;
}

// The nearest number to a * b + c, none of which is negative.
int64_t saturated(int64_t a, int64_t b, int64_t c) {
  int64_t result = 0;
  const bool overflow = __builtin_mul_overflow(a, b, &result) || __builtin_add_overflow(result, c, &result);
  return overflow ? INT64_MAX : result;
}

// Of one sequence with `positions` tokens: a group with a window keeps only that much. Saturated, for sequences that
// nobody has memory for are asked about as well.
int64_t kv_bytes_of(const Plan& plan, int64_t positions) {
  int64_t bytes = 0;
  for (const PlanState& state : plan.states) {
    int64_t page = size_of(state.type.dtype);
    for (size_t d = 1; d < state.type.shape.size(); ++d) page *= state.type.shape[d].constant();
    for (const CacheGroup& group : plan.groups) {
      if (group.name != state.group) continue;
      int64_t kept = group.window ? std::min(positions, group.window + group.page_size) : positions;
      bytes = saturated((kept + group.page_size - 1) / group.page_size, page, bytes);
    }
  }
  return bytes;
}

int64_t longest_that_fits(const Plan& plan, int64_t room, int64_t most) {
  int64_t fits = 0;
  for (int64_t step = int64_t{1} << 40; step > 0; step /= 2)
    if (fits + step <= most && kv_bytes_of(plan, fits + step) <= room) fits += step;
  return fits;
}

// A configuration with what a build of it would decide.
struct Sized {
  ResolvedConfig resolved;
  Plan plan;
  int64_t weight_bytes = 0, working_bytes = 0;  // arena and logits

  int64_t tokens_in(int64_t memory) const {
    const int64_t room = memory - weight_bytes - working_bytes;
    return room > 0 ? longest_that_fits(plan, room, int64_t{1} << 40) : 0;
  }
};

Sized size(Checkpoint& checkpoint, const BuildConfig& asked) {
  const ModelFacts facts = find_model(checkpoint.config()).facts(checkpoint.config());
  BuildConfig config = asked;
  config.opt_level = 0;
  TimingCache timings;
  BuildReport report;
  const std::unique_ptr<Progress> silent = make_progress("none");
  Sized sized{resolve(config, facts, checkpoint.config()), make_plan(checkpoint, config, timings, report, *silent)};
  for (const PlanWeight& weight : sized.plan.weights) sized.weight_bytes += static_cast<int64_t>(weight.bytes);
  uint64_t arena = 0;
  for (const Program& program : sized.plan.programs) arena = std::max(arena, program.arena_bytes);
  sized.working_bytes = static_cast<int64_t>(arena) + sized.resolved.limits.max_outputs * facts.vocab_size * 4;
  return sized;
}

// The largest --max-num-tokens, by halves, that leaves room for a whole sequence, else for the longest one.
std::string step_advice(Checkpoint& checkpoint, const BuildConfig& asked, const Sized& sized, int64_t memory) {
  const int64_t least = sized.resolved.config.max_batch_size, length = sized.resolved.config.max_seq_len;
  const std::string working = print_bytes(static_cast<double>(sized.working_bytes));
  BuildConfig config = asked;
  int64_t best = 0, best_tokens = 0;
  for (int64_t tokens = sized.resolved.config.max_num_tokens; tokens > least && best_tokens < length;) {
    tokens = std::max(least, tokens / 2);
    config.max_num_tokens = tokens;
    const int64_t fitting = size(checkpoint, config).tokens_in(memory);
    if (fitting > best_tokens) best = tokens, best_tokens = fitting;
  }
  if (best_tokens >= length)
    return format("the working memory of {} does not fit beside the weights; --max-num-tokens {} would", working, best);
  if (best_tokens > 0)
    return format(
        "the working memory of {} does not fit beside the weights; --max-num-tokens {} with --max-seq-len {} would",
        working, best, best_tokens);
  return format(
      "the working memory of {} does not fit beside the weights, whatever --max-num-tokens is from --max-batch-size {} "
      "on; a smaller model or a larger machine is needed",
      working, least);
}

std::string advice(Checkpoint& checkpoint, const BuildConfig& asked, const Sized& sized, int64_t memory) {
  auto bytes = [](int64_t value) { return print_bytes(static_cast<double>(value)); };
  const int64_t length = sized.resolved.config.max_seq_len;
  if (const int64_t tokens = sized.tokens_in(memory); tokens > 0 && tokens < length)
    return format("one sequence of {} needs {} of KV cache; --max-seq-len {} would fit", length,
                  bytes(kv_bytes_of(sized.plan, length)), tokens);
  if (sized.weight_bytes < memory) return step_advice(checkpoint, asked, sized, memory);
  return format(
      "the weights exceed the memory by {}; no limit changes that: a smaller dtype, model or a larger machine "
      "is needed",
      bytes(sized.weight_bytes - memory));
}

// Rooflines: what a step must read, or compute, at the machine's best rates.
void estimate_speed(Estimate& e, const Plan& plan, int64_t max_num_tokens) {
  if (e.read_bytes_per_second <= 0) return;
  const double bytes = step_cost(plan, plan.programs.front(), 1, 1, std::min<int64_t>(512, e.max_seq_len)).bytes;
  e.decode_tokens_per_second = e.read_bytes_per_second / bytes;
  if (e.matmul_flops <= 0) return;
  e.prefill_tokens = std::min({int64_t{2048}, e.max_seq_len, max_num_tokens});
  const StepCost prefill = step_cost(plan, plan.programs.back(), 1, e.prefill_tokens, e.prefill_tokens);
  const double seconds = std::max(prefill.flops / e.matmul_flops, prefill.bytes / e.read_bytes_per_second);
  e.prefill_tokens_per_second = static_cast<double>(e.prefill_tokens) / seconds;
}

}  // namespace

Estimate estimate(const PretrainedModel& model, const BuildConfig& asked, int64_t memory_bytes) {
  if (memory_bytes < 0) fail(ErrorCode::kUsage, "the memory is {} bytes, needed 0 or more", memory_bytes);
  Checkpoint& checkpoint = model.impl().checkpoint;
  const Sized sized = size(checkpoint, asked);
  const ResolvedConfig& resolved = sized.resolved;
  const Plan& plan = sized.plan;

  Estimate e;
  e.architecture = find_model(checkpoint.config()).facts(checkpoint.config()).architecture;
  e.dtype = std::string(user_dtype_name(resolved.dtype));
  e.target = resolved.target.text();
  for (const std::string& name : checkpoint.names()) e.parameters += checkpoint.type(name).elements();
  e.weight_bytes = sized.weight_bytes;
  e.kv_bytes_per_token = kv_bytes_per_token(plan);
  e.max_seq_len = resolved.config.max_seq_len;
  e.max_batch_size = resolved.config.max_batch_size;
  e.kv_bytes_full = saturated(kv_bytes_of(plan, e.max_seq_len), e.max_batch_size, 0);
  e.working_bytes = sized.working_bytes;
  ThreadPool threads(resolved.config.threads);
  const double host_rate = quick_read_rate(threads, cpu_features().level);
  const Machine machine = machine_of(resolved, host_rate);
  e.memory_bytes = memory_bytes ? memory_bytes : machine.memory_bytes;
  if (e.memory_bytes == 0)
    fail(ErrorCode::kUsage, "there is no {} here and no figures for one: --device-memory says how much memory it has",
         e.target);
  e.tokens_that_fit = sized.tokens_in(e.memory_bytes);
  e.fits = e.tokens_that_fit >= e.max_seq_len;
  // What is free now may be a little less when the advice is followed.
  const int64_t counted_on = memory_bytes ? memory_bytes : e.memory_bytes - e.memory_bytes / 32;
  if (!e.fits) e.advice = advice(checkpoint, asked, sized, counted_on);
  e.ceilings = machine.ceilings;
  e.read_bytes_per_second = machine.read_bytes_per_second;
  e.matmul_flops = machine.matmul_flops;
  estimate_speed(e, plan, resolved.limits.max_num_tokens);
  e.build_seconds = static_cast<double>(e.weight_bytes) / (host_rate * kWriteShare);
  return e;
}

}  // namespace ingot
