#include <algorithm>
#include <chrono>
#include <cstring>

#include "tune/lost_time.h"
#include "tune/runner.h"
#include "tune/tactic_bench.h"

namespace ingot {

namespace {

using Clock = std::chrono::steady_clock;

// Weights and caches are read from this much memory in turn: more than the last-level cache that a machine of the
// threads' share can keep, and small beside a model.
constexpr size_t kColdBytes = size_t{384} << 20;
// Measured problems are cut down to about these, so that one turn takes milliseconds and what does not shrink with the
// output features (packing activations) stays a small part of it. The first screening uses a small part of them.
constexpr int64_t kCutBytes = int64_t{8} << 20, kCutBytesPerThread = int64_t{4} << 20;
constexpr double kCutFlopsPerThread[] = {0.1e9, 0.25e9, 0.4e9, 4e9};  // by CpuLevel
constexpr double kScreenPart = 0.125;
// Larger inputs are weights and caches, which come from cold memory.
constexpr int64_t kLeastStreamed = int64_t{128} << 10;
// A turn repeats short work: at least three times, and to at least this long in all.
constexpr double kTurnMicroseconds = 100;
constexpr double kShortMicroseconds = 1000;

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// Random float bytes that stand for weights while timing. Every dtype reads sane numbers: the pattern has small
// exponents in both halves of each 32-bit word.
class ColdMemory {
 public:
  ColdMemory() : bytes_(kColdBytes) {
    constexpr size_t kPattern = size_t{4} << 20;
    uint64_t state = 0x9e3779b97f4a7c15;
    auto* words = reinterpret_cast<uint32_t*>(bytes_.data());
    for (size_t i = 0; i < kPattern / 4; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      words[i] = (static_cast<uint32_t>(state >> 32) & 0x81ff81ff) | 0x3c003c00;
    }
    for (size_t at = kPattern; at < kColdBytes; at += kPattern)
      std::memcpy(bytes_.data() + at, bytes_.data(), kPattern);
  }

  // The next `size` bytes, never the ones used lately; nullptr when there is not that much.
  std::byte* next(size_t size) {
    if (size > kColdBytes) return nullptr;
    if (at_ + size > kColdBytes) at_ = 0;
    std::byte* data = bytes_.data() + at_;
    at_ += (size + 63) / 64 * 64;
    return data;
  }

 private:
  AlignedBytes bytes_;
  size_t at_ = 0;
};

// Whether an output continues the input.
bool is_state(const Problem& problem, size_t input) {
  for (size_t o = 0; o < problem.outputs.size(); ++o)
    if (problem.op.aliased_input(static_cast<int>(o)) == static_cast<int>(input)) return true;
  return false;
}

// Points the outputs of `runner` at `outputs`, those that continue a state at the state's memory.
template <class F>
void bind_outputs(TacticRunner& runner, const Problem& problem, const std::vector<AlignedBytes>& outputs,
                  F&& input_data) {
  for (size_t o = 0; o < problem.outputs.size(); ++o) {
    int alias = problem.op.aliased_input(static_cast<int>(o));
    runner.bind(static_cast<int>(problem.inputs.size() + o),
                alias >= 0 ? input_data(static_cast<size_t>(alias)) : static_cast<void*>(outputs[o].data()));
  }
}

class CpuContestant final : public Contestant {
 public:
  CpuContestant(const Problem& problem, const CompiledTactic& tactic, ThreadPool& threads, LostTime& lost,
                ColdMemory& cold, std::byte* scratch)
      : problem_(problem),
        tactic_(tactic),
        threads_(threads),
        lost_(lost),
        cold_(cold),
        runner_(problem, tactic, scratch) {}
  TacticRunner& runner() { return runner_; }

  double turn(double hopeless) override {
    double total = 0, best = 1e300;
    int repeats = 0;
    do {
      bind_cold();
      lost_.start();
      Clock::time_point start = Clock::now();
      runner_.run(threads_);
      double taken = lost_.without(microseconds_since(start));
      best_ = std::min(best_, taken);
      best = std::min(best, taken);
      total += taken;
      ++repeats;
      // One short run that looks hopeless may have been disturbed.
      if (best_ >= kShortMicroseconds || (best_ >= hopeless && repeats >= 2)) break;
    } while (repeats < 3 || (total < kTurnMicroseconds && repeats < 64));
    return best;
  }

 private:
  // Points streamed inputs at memory that was not read lately. A state's output follows its input.
  void bind_cold() {
    for (size_t i = 0; i < problem_.inputs.size(); ++i) {
      if (!is_streamed(problem_, i)) continue;
      std::byte* data = cold_.next(static_cast<size_t>(stored_bytes(problem_, tactic_, i)));
      if (!data) continue;
      runner_.bind(static_cast<int>(i), data);
      for (size_t o = 0; o < problem_.outputs.size(); ++o)
        if (problem_.op.aliased_input(static_cast<int>(o)) == static_cast<int>(i))
          runner_.bind(static_cast<int>(problem_.inputs.size() + o), data);
    }
  }

  const Problem& problem_;
  const CompiledTactic& tactic_;
  ThreadPool& threads_;
  LostTime& lost_;
  ColdMemory& cold_;
  TacticRunner runner_;
  double best_ = 1e300;
};

class CpuBench final : public TacticBench {
 public:
  explicit CpuBench(const Target& target)
      : threads_(target.threads),
        lost_(threads_),
        limits_{std::max(kCutBytes, kCutBytesPerThread * target.threads),
                kCutFlopsPerThread[static_cast<size_t>(target.cpu_level)] * target.threads} {}

  CutLimits limits() const override { return limits_; }
  std::optional<CutLimits> screening_limits() const override {
    return CutLimits{static_cast<int64_t>(static_cast<double>(limits_.max_bytes) * kScreenPart),
                     limits_.max_flops * kScreenPart};
  }

  void begin(const Problem& problem) override {
    problem_ = problem;
    inputs_ = std::make_unique<Inputs>(make_inputs(problem_, 1, kLeastStreamed - 1));
    resize_outputs(problem_);
  }

  std::unique_ptr<Contestant> enter(const CompiledTactic& tactic) override {
    auto contestant =
        std::make_unique<CpuContestant>(problem_, tactic, threads_, lost_, cold_, scratch_for(tactic.scratch_bytes));
    TacticRunner& runner = contestant->runner();
    for (size_t input = 0; input < problem_.inputs.size(); ++input)
      runner.bind(static_cast<int>(input), inputs_->data(input));
    bind_outputs(runner, problem_, outputs_, [&](size_t input) { return static_cast<void*>(inputs_->data(input)); });
    return contestant;
  }

  CheckResult check(const Problem& problem, const CompiledTactic& tactic, const Inputs& inputs,
                    const Expected& expected) override {
    TacticRunner runner(problem, tactic);
    std::vector<AlignedBytes> kept;
    std::vector<void*> data(problem.inputs.size());
    for (size_t i = 0; i < problem.inputs.size(); ++i) {
      data[i] = inputs.data(i);
      if (!tactic.input_layouts[i].empty()) {
        data[i] = kept.emplace_back(packed(problem.inputs[i], inputs.data(i), tactic.input_layouts[i])).data();
      } else if (is_state(problem, i)) {  // it is written in place
        data[i] = kept.emplace_back(static_cast<size_t>(problem.inputs[i].bytes())).data();
        std::memcpy(data[i], inputs.data(i), static_cast<size_t>(problem.inputs[i].bytes()));
      }
      runner.bind(static_cast<int>(i), data[i]);
    }
    resize_outputs(problem);
    bind_outputs(runner, problem, outputs_, [&](size_t i) { return data[i]; });
    runner.run(threads_);
    std::vector<const void*> outputs;
    for (size_t o = 0; o < problem.outputs.size(); ++o) {
      int alias = problem.op.aliased_input(static_cast<int>(o));
      outputs.push_back(alias >= 0 ? data[static_cast<size_t>(alias)] : outputs_[o].data());
    }
    return expected.compare(outputs);
  }

 private:
  // Output buffers grow and stay: fresh memory would be paid for page by page in the first turn.
  void resize_outputs(const Problem& problem) {
    outputs_.resize(std::max(outputs_.size(), problem.outputs.size()));
    for (size_t i = 0; i < problem.outputs.size(); ++i) {
      size_t bytes = static_cast<size_t>(problem.outputs[i].bytes()) + 64;
      if (outputs_[i].size() < bytes) outputs_[i] = AlignedBytes(bytes);
    }
  }

  // Contestants take turns and share scratch; one that needs more than there is gets a piece of its own, and later ones
  // share that.
  std::byte* scratch_for(int64_t bytes) {
    if (scratch_.empty() || static_cast<size_t>(bytes) > scratch_.back().size())
      scratch_.emplace_back(static_cast<size_t>(bytes));
    return scratch_.back().data();
  }

  ThreadPool threads_;
  LostTime lost_;
  CutLimits limits_;
  Problem problem_;
  std::unique_ptr<Inputs> inputs_;
  ColdMemory cold_;
  std::vector<AlignedBytes> outputs_, scratch_;
};

}  // namespace

bool is_streamed(const Problem& problem, size_t input) {
  if (input == 0 && !is_state(problem, input)) return false;  // activations come first and are warm in a step
  const TensorType& type = problem.inputs[input];
  return is_float(type.dtype) && type.bytes() >= kLeastStreamed;
}

std::unique_ptr<TacticBench> make_cpu_bench(const Target& target) { return std::make_unique<CpuBench>(target); }

}  // namespace ingot
