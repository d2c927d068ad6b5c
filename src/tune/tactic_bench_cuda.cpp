#include <algorithm>
#include <vector>

#include "device/cuda/device.h"
#include "tune/gpu_runner.h"
#include "tune/tactic_bench.h"

namespace ingot {

namespace {

// Weights and caches are read from this much memory in turn, several times the second-level cache.
constexpr uint64_t kColdBytes = uint64_t{1} << 30;

// Device memory full of random numbers: see ColdMemory of the CPU's bench.
class ColdPool {
 public:
  ColdPool(const cuda::DevicePtr& device, cuda::Stream& stream) : device_(device), stream_(stream) { grow(kColdBytes); }

  // Makes room for values of `size` bytes; what was handed out before is gone if there was none.
  void reserve(uint64_t size) {
    if (size * 2 > memory_.size()) grow(size * 2);
  }
  // `size` bytes that were not used lately.
  std::byte* next(uint64_t size) {
    if (at_ + size > memory_.size()) at_ = 0;
    std::byte* data = memory_.data() + at_;
    at_ += (size + 255) / 256 * 256;
    return data;
  }
  // Memory that is the same every time, for values that a cache holds in a step.
  std::byte* warm() const { return memory_.data(); }

 private:
  void grow(uint64_t bytes) {
    constexpr uint64_t kPattern = uint64_t{4} << 20;
    std::vector<uint32_t> pattern(kPattern / 4);
    uint64_t state = 0x9e3779b97f4a7c15;
    for (uint32_t& word : pattern) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      word = (static_cast<uint32_t>(state >> 32) & 0x81ff81ff) | 0x3c003c00;
    }
    stream_.synchronize();
    memory_ = {};
    memory_ = cuda::Memory(device_, (bytes + kPattern - 1) / kPattern * kPattern, "weights to measure with");
    stream_.upload(memory_.data(), pattern.data(), kPattern);
    for (uint64_t done = kPattern; done < memory_.size(); done *= 2)
      stream_.copy(memory_.data() + done, memory_.data(), std::min(done, memory_.size() - done));
    at_ = 0;
  }

  cuda::DevicePtr device_;
  cuda::Stream& stream_;
  cuda::Memory memory_;
  uint64_t at_ = 0;
};

class CudaContestant final : public Contestant {
 public:
  CudaContestant(const Problem& problem, const CompiledTactic& tactic, const CudaBenchOptions& options,
                 cuda::Stream& stream, ColdPool& cold, std::byte* scratch)
      : problem_(problem),
        tactic_(tactic),
        options_(options),
        stream_(stream),
        cold_(cold),
        begin_(stream.device_ptr(), true),
        end_(stream.device_ptr(), true),
        runner_(problem, tactic, scratch, gpu_support(stream.device_ptr(), tactic)) {}
  TacticRunner& runner() { return runner_; }

  double turn(double hopeless) override {
    if (!graph_) {
      run_cold();  // loads the code
      double alone = timed([&] { run_cold(); });
      if (alone > hopeless && alone > options_.turn_microseconds) return alone;
      repeats_ = std::clamp(static_cast<int>(options_.turn_microseconds / alone), 2, options_.most_repeats);
      stream_.begin_capture();
      for (int i = 0; i < repeats_; ++i) run_cold();
      graph_ = stream_.end_capture();
      graph_.launch(stream_);
    }
    return timed([&] { graph_.launch(stream_); }) / repeats_;
  }

 private:
  template <class F>
  double timed(F&& work) {
    begin_.record(stream_);
    work();
    end_.record(stream_);
    end_.synchronize();
    return end_.microseconds_since(begin_);
  }

  void run_cold() {
    for (size_t i = 0; i < problem_.inputs.size(); ++i) {
      if (!is_streamed(problem_, i)) continue;
      std::byte* data = cold_.next(static_cast<uint64_t>(stored_bytes(problem_, tactic_, i)));
      runner_.bind(static_cast<int>(i), data);
      for (size_t o = 0; o < problem_.outputs.size(); ++o)
        if (problem_.op.aliased_input(static_cast<int>(o)) == static_cast<int>(i))
          runner_.bind(static_cast<int>(problem_.inputs.size() + o), data);
    }
    runner_.enqueue(stream_);
  }

  const Problem& problem_;
  const CompiledTactic& tactic_;
  const CudaBenchOptions& options_;
  cuda::Stream& stream_;
  ColdPool& cold_;
  cuda::Event begin_, end_;
  TacticRunner runner_;
  cuda::Graph graph_;
  int repeats_ = 0;
};

class CudaBench final : public TacticBench {
 public:
  explicit CudaBench(CudaBenchOptions options)
      : options_(std::move(options)), device_(cuda::Device::open()), stream_(device_), cold_(device_, stream_) {}

  CutLimits limits() const override { return {}; }
  std::optional<CutLimits> screening_limits() const override { return std::nullopt; }

  void begin(const Problem& problem) override {
    problem_ = problem;
    std::optional<Inputs> inputs = options_.inputs ? options_.inputs(problem_) : std::nullopt;
    const bool floats = inputs.has_value();
    if (!floats) inputs = make_inputs(problem_, 1, kIndicesOnly);
    data_.assign(problem_.inputs.size(), nullptr);
    memory_.clear();
    outgrown_.clear();
    for (const TensorType& type : problem_.inputs) cold_.reserve(static_cast<uint64_t>(type.bytes()));
    for (size_t i = 0; i < problem_.inputs.size(); ++i) {
      const TensorType& type = problem_.inputs[i];
      if (is_float(type.dtype) && (!floats || is_streamed(problem_, i))) {
        data_[i] = cold_.warm();
        continue;
      }
      cuda::Memory& memory = memory_.emplace_back(device_, static_cast<uint64_t>(type.bytes()) + 16, "an input");
      stream_.upload(memory.data(), inputs->data(i), static_cast<uint64_t>(type.bytes()));
      data_[i] = memory.data();
    }
    stream_.synchronize();
    outputs_.resize(std::max(outputs_.size(), problem_.outputs.size()));
    for (size_t o = 0; o < problem_.outputs.size(); ++o)
      outputs_[o] = with_size(std::move(outputs_[o]), static_cast<uint64_t>(problem_.outputs[o].bytes()));
  }

  std::unique_ptr<Contestant> enter(const CompiledTactic& tactic) override {
    scratch_ = with_size(std::move(scratch_), static_cast<uint64_t>(tactic.scratch_bytes));
    auto contestant = std::make_unique<CudaContestant>(problem_, tactic, options_, stream_, cold_, scratch_.data());
    TacticRunner& runner = contestant->runner();
    for (size_t i = 0; i < data_.size(); ++i) runner.bind(static_cast<int>(i), data_[i]);
    for (size_t o = 0; o < problem_.outputs.size(); ++o) {
      int alias = problem_.op.aliased_input(static_cast<int>(o));
      runner.bind(static_cast<int>(data_.size() + o),
                  alias >= 0 ? data_[static_cast<size_t>(alias)] : outputs_[o].data());
    }
    return contestant;
  }

  CheckResult check(const Problem& problem, const CompiledTactic& tactic, const Inputs& original,
                    const Expected& expected) override {
    Inputs inputs = original;  // states are written in place
    GpuRunner runner(problem, tactic);
    std::vector<AlignedBytes> kept;
    for (size_t i = 0; i < problem.inputs.size(); ++i) {
      std::byte* data = inputs.data(i);
      auto bytes = static_cast<size_t>(stored_bytes(problem, tactic, i));
      if (!tactic.input_layouts[i].empty())
        data = kept.emplace_back(packed(problem.inputs[i], data, tactic.input_layouts[i])).data();
      runner.bind(static_cast<int>(i), data, bytes);
    }
    std::vector<const void*> outputs;
    for (size_t o = 0; o < problem.outputs.size(); ++o) {
      int alias = problem.op.aliased_input(static_cast<int>(o));
      auto bytes = static_cast<size_t>(problem.outputs[o].bytes());
      std::byte* data = alias >= 0 ? inputs.data(static_cast<size_t>(alias)) : kept.emplace_back(bytes + 16).data();
      runner.bind(static_cast<int>(problem.inputs.size() + o), data, bytes);
      outputs.push_back(data);
    }
    runner.run();
    return expected.compare(outputs);
  }

 private:
  // Memory of at least `bytes`; contestants of one problem may hold the old one, so it goes only between problems.
  cuda::Memory with_size(cuda::Memory memory, uint64_t bytes) {
    if (memory.size() >= bytes + 256) return memory;
    stream_.synchronize();
    if (memory.size() > 0) outgrown_.push_back(std::move(memory));
    return cuda::Memory(device_, bytes + 256, "an output");
  }

  CudaBenchOptions options_;
  cuda::DevicePtr device_;
  cuda::Stream stream_;
  ColdPool cold_;
  Problem problem_;
  std::vector<std::byte*> data_;
  std::vector<cuda::Memory> memory_, outputs_, outgrown_;
  cuda::Memory scratch_;
};

}  // namespace

std::unique_ptr<TacticBench> make_cuda_bench(CudaBenchOptions options) {
  return std::make_unique<CudaBench>(std::move(options));
}

}  // namespace ingot
