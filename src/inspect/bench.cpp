#include "inspect/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/fields.h"
#include "generate/token_session.h"
#include "inspect/ceilings_cuda.h"
#include "inspect/quality.h"
#include "inspect/step_cost.h"

namespace ingot {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kReadBytes = int64_t{1} << 30, kGpuReadBytes = int64_t{8} << 30;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double deviation(const std::vector<double>& values) {
  double centre = mean(values), sum = 0;
  for (double value : values) sum += (value - centre) * (value - centre);
  return values.size() > 1 ? std::sqrt(sum / static_cast<double>(values.size() - 1)) : 0;
}

// 0 where there is no ceiling.
double share(double rate, double ceiling) { return ceiling > 0 ? rate / ceiling : 0; }

struct Workload {
  int64_t batch, prompt, answer;
};

class Bench {
 public:
  Bench(std::shared_ptr<const LoadedEngine> engine, const BenchOptions& options)
      : engine_(std::move(engine)),
        options_(options),
        meter_(gpu_meter(*engine_, options)),
        session_(engine_, session_options(options)) {
    ThreadPool& threads = session_.runner().context().threads();
    threads_ = threads.size();
    if (!meter_)
      meter_ = std::make_unique<CpuCeilingMeter>(threads, cpu_features().level, kReadBytes,
                                                 std::min(3, options.repetitions));
  }

  // A batch that one step cannot hold would be measured as the smaller one that it can.
  void check(const Workload& work) const {
    const int64_t most = session_.limits().max_batch_size;
    if (work.batch > most)
      fail(ErrorCode::kUsage, "the batch size is {}; the engine's max_batch_size is {}", work.batch, most);
    const int64_t longest = session_.limits().max_seq_len;
    if (work.prompt >= longest || work.answer >= longest - work.prompt)
      fail(ErrorCode::kUsage, "{} prompt and {} new tokens, and one to end with, exceed the engine's max_seq_len of {}",
           work.prompt, work.answer, longest);
  }

  // Every repetition: ceiling, prefill, ceilings, a run of decode steps, ceiling. A share is taken of the mean of the
  // ceilings before and after.
  std::pair<BenchRow, BenchRow> measure(const Workload& work) {
    std::vector<double> prefill_seconds, prefill_shares, decode_seconds, decode_shares, peaks, reads;
    StepCost prefill{}, decode{};
    run_once(
        work, 1, [](double) {}, [](double) {});  // warm-up: memory is touched, pages are given out
    for (int r = 0; r < options_.repetitions; ++r) {
      double peak = meter_->measure_matmul(), read = 0;
      std::vector<double> steps;
      run_once(
          work, work.answer,
          [&](double seconds) {
            prefill_seconds.push_back(seconds);
            peak = (peak + meter_->measure_matmul()) / 2;
            read = meter_->measure_read();
          },
          [&](double seconds) { steps.push_back(seconds); });
      read = (read + meter_->measure_read()) / 2;
      const Plan& plan = engine_->plan();
      prefill = prefill_cost(plan, work);
      decode = step_cost(plan, program_for(plan, work.batch), work.batch, 1, work.prompt + work.answer / 2);
      prefill_shares.push_back(share(prefill.flops / prefill_seconds.back(), peak));
      decode_seconds.push_back(median(steps));
      decode_shares.push_back(share(decode.bytes / decode_seconds.back(), read));
      peaks.push_back(peak), reads.push_back(read);
    }
    BenchRow first = row("prefill", work, prefill, prefill_seconds),
             second = row("decode", work, decode, decode_seconds);
    first.tokens_per_second = static_cast<double>(work.batch * work.prompt) / median(prefill_seconds);
    first.context = work.prompt;
    first.ceiling_name = meter_->matmul_name();
    first.ceiling_flops = median(peaks);
    first.ceiling_share = median(prefill_shares);
    second.tokens_per_second = static_cast<double>(work.batch) / median(decode_seconds);
    second.context = work.prompt + work.answer / 2;
    second.ceiling_name = meter_->read_name();
    second.ceiling_bytes_per_second = median(reads);
    second.ceiling_share = median(decode_shares);
    return {first, second};
  }

 private:
  // Before the session, which may take all the memory that is left. nullptr for an engine that runs on the CPU.
  static std::unique_ptr<CeilingMeter> gpu_meter(const LoadedEngine& engine, const BenchOptions& options) {
    if (!engine.device()) return nullptr;
    return std::make_unique<CudaCeilingMeter>(engine.device(), kGpuReadBytes, std::min(3, options.repetitions));
  }

  static TokenSessionOptions session_options(const BenchOptions& options) {
    TokenSessionOptions session;
    session.runner.threads = options.threads;
    session.eos_ids = std::vector<int32_t>{};
    return session;
  }

  // Prompts are prefilled together, then decoded step by step. The sequences whose prompts fit into the first steps
  // already decode while the others' prompts run.
  template <class F, class G>
  void run_once(const Workload& work, int64_t answer, F&& prefilled, G&& decoded) {
    std::vector<uint64_t> ids;
    for (int64_t b = 0; b < work.batch; ++b) ids.push_back(session_.submit(request(work, answer)));
    std::set<uint64_t> waiting(ids.begin(), ids.end());
    Clock::time_point start = Clock::now();
    while (!waiting.empty())
      for (const TokenEvent& event : session_.step()) waiting.erase(event.request);
    prefilled(seconds_since(start));
    for (int64_t i = 0; i < answer; ++i) {
      start = Clock::now();
      const size_t tokens = session_.step().size();
      decoded(seconds_since(start));
      if (tokens < ids.size()) refuse_part(work, tokens);
    }
    for (uint64_t id : ids) session_.cancel(id);
  }

  // A step that decoded only some of the sequences says nothing about the batch.
  [[noreturn]] void refuse_part(const Workload& work, size_t tokens) const {
    if (session_.scheduler().waiting() > 0 || session_.scheduler().preemptions() > 0)
      fail(ErrorCode::kDoesNotFit,
           "the KV cache does not hold {} sequences of {} prompt and {} new tokens at once, only {} of them",
           work.batch, work.prompt, work.answer, tokens);
    fail(ErrorCode::kUsage,
         "{} sequences of {} prompt and {} new tokens leave no room below max_seq_len {} for the tokens that the first "
         "ones make while the prompts of the others run; fewer new tokens are needed",
         work.batch, work.prompt, work.answer, session_.limits().max_seq_len);
  }

  TokenRequest request(const Workload& work, int64_t answer) {
    TokenRequest request;
    for (int64_t i = 0; i < work.prompt; ++i) {
      random_ = random_ * 6364136223846793005u + 1442695040888963407u;
      request.ids.push_back(static_cast<int32_t>((random_ >> 33) % static_cast<uint64_t>(session_.vocab_size())));
    }
    // None may end before all have decoded.
    const int64_t prefill_steps = work.batch * work.prompt / session_.limits().max_num_tokens + work.batch;
    const int64_t most = session_.max_new_tokens(work.prompt);
    request.params.max_tokens = std::max(answer + 1, std::min(answer + 1 + prefill_steps, most));
    request.params.ignore_eos = true;
    return request;
  }

  static const Program& program_for(const Plan& plan, int64_t tokens) {
    for (const Program& program : plan.programs)
      for (const DimRange& dim : program.dims)
        if (dim.symbol == "tokens" && tokens >= dim.min && tokens <= dim.max) return program;
    return plan.programs.back();
  }

  // A prompt longer than a step takes is prefilled in chunks; the work is counted as if it were one step.
  static StepCost prefill_cost(const Plan& plan, const Workload& work) {
    return step_cost(plan, program_for(plan, work.batch * work.prompt), work.batch, work.prompt, work.prompt);
  }

  BenchRow row(const char* phase, const Workload& work, const StepCost& cost,
               const std::vector<double>& seconds) const {
    BenchRow row;
    row.phase = phase;
    row.batch_size = work.batch, row.prompt_tokens = work.prompt, row.new_tokens = work.answer;
    row.dtype = engine_dtype(*engine_);
    row.target = engine_->plan().programs[0].target;
    row.threads = threads_;
    row.ms_mean = mean(seconds) * 1e3, row.ms_stddev = deviation(seconds) * 1e3;
    row.bytes_per_step = cost.bytes, row.flops = cost.flops;
    return row;
  }

  std::shared_ptr<const LoadedEngine> engine_;
  BenchOptions options_;
  std::unique_ptr<CeilingMeter> meter_;
  TokenSession session_;
  int threads_ = 1;
  uint64_t random_ = 1;
};

}  // namespace

std::vector<BenchRow> measure_speed(std::shared_ptr<const LoadedEngine> engine, const BenchOptions& options,
                                    const ProgressCallback& progress) {
  if (options.repetitions < 1) fail(ErrorCode::kUsage, "repetitions is {}, needed at least 1", options.repetitions);
  std::vector<Workload> work;
  for (int64_t batch : options.batch_sizes)
    for (int64_t prompt : options.prompt_tokens)
      for (int64_t answer : options.new_tokens) {
        if (batch < 1 || prompt < 1 || answer < 1)
          fail(ErrorCode::kUsage, "batch size {}, prompt {} and new tokens {} must be positive", batch, prompt, answer);
        work.push_back({batch, prompt, answer});
      }
  Bench bench(std::move(engine), options);
  for (const Workload& each : work) bench.check(each);
  std::vector<BenchRow> rows;
  for (size_t i = 0; i < work.size(); ++i) {
    auto [prefill, decode] = bench.measure(work[i]);
    rows.push_back(prefill);
    rows.push_back(decode);
    if (progress) progress("bench", static_cast<double>(i + 1) / static_cast<double>(work.size()));
  }
  return rows;
}

}  // namespace ingot
