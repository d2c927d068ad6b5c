// Steps on a GPU. The inputs of a run are packed into one piece of pinned memory and copied at once. Runs that come
// back with the same sizes are replayed from a graph: kernels read what differs (positions, lengths, pages) from the
// inputs.
//
// Runs, copies of their inputs and copies of their outputs are work of one stream: so one place on the device serves
// the inputs of all runs. On the host the pieces take turns, because a run may be prepared while the one before it
// waits.
//
// The copy of the inputs also is what parts two runs: kernels start before those in front of them have ended
// (programmatic dependent launch), and read inputs and what earlier runs left in states without waiting for these. No
// kernel overtakes a copy, so all of the run before has ended then. A run without inputs has nothing to read so early.
#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <list>
#include <vector>

#include "base/error.h"
#include "device/cuda/device.h"
#include "runtime/runs_under_way.h"
#include "runtime/step_machine.h"

namespace ingot {

namespace {

constexpr uint64_t kAlignment = kGpuInputAlignment;
// Graphs of so many different sizes are kept; the one that was not used for longest goes.
constexpr size_t kMostGraphs = 64;
// Inputs get this much memory, or all that they may ever need if that is less; more when a run brings more.
constexpr uint64_t kFirstInputBytes = uint64_t{4} << 20;
constexpr size_t kStages = 2;
// Writing so much takes about ten microseconds: an observed step is enqueued by then, and the host's part of the launch
// is not in its time.
constexpr uint64_t kDelayBytes = uint64_t{24} << 20;

uint64_t aligned(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

class GpuMachine final : public StepMachine {
 public:
  GpuMachine(const LoadedEngine& engine, uint64_t arena_bytes, uint64_t input_bytes)
      : device_(engine.device()),
        stream_(device_),
        begin_(device_, true),
        end_(device_, true),
        arena_(device_, arena_bytes + kAlignment, "the values between steps"),
        device_inputs_(device_, std::min(input_bytes, kFirstInputBytes) + kAlignment, "the inputs of a step"),
        slots_(engine.plan().inputs.size()),
        outputs_(engine.plan().outputs.size()) {
    for (size_t i = 0; i < kStages; ++i) stages_.push_back(std::make_unique<Stage>(device_, device_inputs_.size()));
  }
  // Nothing may still be read or written when the memory goes.
  ~GpuMachine() override {
    try {
      stream_.synchronize();
    } catch (const std::exception&) {  // whoever waited has been told
    }
  }

  std::byte* arena() const override { return arena_.data(); }

  void begin_layout(uint64_t input_bytes) override {
    if (input_bytes > device_inputs_.size()) {
      wait();
      replays_.clear();  // they name the old place
      device_inputs_ = {};
      device_inputs_ = cuda::Memory(device_, std::bit_ceil(input_bytes), "the inputs of a step");
    }
    input_bytes_ = 0;
    for (InputSlot& slot : slots_) slot.used = false;
    for (Output& output : outputs_) output.used = false;
  }

  std::byte* input(size_t index, HostBuffer host, uint64_t bytes) override {
    InputSlot& slot = slots_[index];
    if (!slot.used) {
      slot = {true, host.data, bytes, input_bytes_};
      input_bytes_ += aligned(bytes);
      assert(input_bytes_ <= device_inputs_.size());
    }
    return device_inputs_.data() + slot.offset;
  }

  std::byte* output(size_t index, HostBuffer host, uint64_t bytes, uint64_t largest) override {
    Output& output = outputs_[index];
    if (output.memory.size() < largest) output.memory = cuda::Memory(device_, largest, "an output");
    output.used = true;
    output.bound = host.data;
    output.bytes = bytes;
    return output.memory.data();
  }

  void start(const ResolvedProgram& program, std::span<const Argument> arguments, bool repeated,
             const StepObserver& observer) override {
    if (observer) return run_observed(program, arguments, observer);
    naming_failures([&] {
      upload_inputs();
      runs_->begin(program);
      if (const cuda::Graph* graph = graph_for(program, arguments, repeated))
        graph->launch(stream_);
      else
        start_steps(program, arguments);
      download_outputs();
    });
  }

  void wait() override {
    runs_->name_failures([&] { stream_.synchronize(); });
    runs_->ended(runs_->last());
  }

  void read_back(std::span<const OutputPart> parts, Readback& to) override {
    naming_failures([&] {
      std::byte* target = to.make_room(parts);
      for (const OutputPart& part : parts) {
        stream_.download(target, outputs_[part.output].memory.data() + part.offset, part.bytes);
        target += part.bytes;
      }
      to.mark(stream_, runs_);
    });
  }

  std::byte* read_output(size_t index) override {
    Output& output = outputs_[index];
    if (output.bound) return output.bound;
    if (output.host.size() < output.bytes) output.host = cuda::PinnedMemory(device_, output.memory.size());
    naming_failures([&] { stream_.download(output.host.data(), output.memory.data(), output.bytes); });
    wait();
    return output.host.data();
  }

 private:
  struct InputSlot {
    bool used = false;
    const std::byte* host = nullptr;
    uint64_t bytes = 0, offset = 0;
  };
  struct Output {
    bool used = false;
    std::byte* bound = nullptr;
    uint64_t bytes = 0;
    cuda::Memory memory;
    cuda::PinnedMemory host;
  };
  struct Replay {
    const ResolvedProgram* program;
    std::vector<Argument> arguments;
    cuda::Graph graph;
  };

  // Where the inputs of a run wait for their copy to the device.
  struct Stage {
    Stage(const cuda::DevicePtr& device, uint64_t bytes) : memory(device, bytes), copied(device) {}
    cuda::PinnedMemory memory;
    cuda::Event copied;
  };

  // Does `work`, which gives the device more to do. A device that refuses it because of what it was given before says
  // so under the names of these runs.
  template <class F>
  void naming_failures(F&& work) {
    try {
      work();
    } catch (const Error&) {
      if (device_->lost()) wait();
      throw;
    }
  }

  void upload_inputs() {
    Stage& stage = *stages_[next_stage_];
    next_stage_ = (next_stage_ + 1) % kStages;
    stage.copied.synchronize();
    if (stage.memory.size() < input_bytes_) stage.memory = cuda::PinnedMemory(device_, device_inputs_.size());
    for (const InputSlot& slot : slots_)
      if (slot.used && slot.bytes > 0) std::memcpy(stage.memory.data() + slot.offset, slot.host, slot.bytes);
    if (input_bytes_ > 0) stream_.upload(device_inputs_.data(), stage.memory.data(), input_bytes_);
    stage.copied.record(stream_);
  }

  void download_outputs() {
    for (Output& output : outputs_)
      if (output.used && output.bound) stream_.download(output.bound, output.memory.data(), output.bytes);
  }

  static std::string label(const ResolvedProgram& program, size_t index) {
    return format("{}: step {} ({})", program.name, index, program.program->steps[index].label);
  }

  void start_step(const ResolvedProgram& program, std::span<const Argument> arguments, size_t index) {
    const ResolvedStep& step = program.steps[index];
    Launch launch;
    launch.arguments = arguments.subspan(step.first_argument, step.arguments);
    launch.scratch = arena_.data() + step.scratch_offset;
    launch.stream = &stream_;
    step.kernel->run(launch);
  }

  void start_steps(const ResolvedProgram& program, std::span<const Argument> arguments) {
    for (size_t i = 0; i < program.steps.size(); ++i) {
      Scope scope(label(program, i));
      start_step(program, arguments, i);
    }
  }

  void run_observed(const ResolvedProgram& program, std::span<const Argument> arguments, const StepObserver& observer) {
    wait();  // then what fails is the step that is waited for
    upload_inputs();
    runs_->begin(program);
    if (delay_.size() == 0) delay_ = cuda::Memory(device_, kDelayBytes, "memory to write while a step is enqueued");
    for (size_t i = 0; i < program.steps.size(); ++i) {
      Scope scope(label(program, i));
      stream_.fill(delay_.data(), 0, delay_.size());
      begin_.record(stream_);
      start_step(program, arguments, i);
      end_.record(stream_);
      stream_.synchronize();
      const ResolvedStep& step = program.steps[i];
      observer({*program.program, i, program.program->steps[i], arguments.subspan(step.first_argument, step.arguments),
                end_.microseconds_since(begin_)});
    }
    download_outputs();
  }

  static bool same(std::span<const Argument> a, std::span<const Argument> b) {
    return std::ranges::equal(
        a, b, [](const Argument& x, const Argument& y) { return x.data == y.data && x.size == y.size; });
  }

  // The recording of a run with these arguments; made when they come the second time in a row.
  const cuda::Graph* graph_for(const ResolvedProgram& program, std::span<const Argument> arguments, bool repeated) {
    for (auto at = replays_.begin(); at != replays_.end(); ++at) {
      if (at->program != &program || !same(at->arguments, arguments)) continue;
      replays_.splice(replays_.begin(), replays_, at);
      return &replays_.front().graph;
    }
    if (!repeated) return nullptr;
    stream_.begin_capture();
    OnExit abandon([&] { stream_.abandon_capture(); });
    start_steps(program, arguments);
    abandon.release();
    replays_.push_front({&program, {arguments.begin(), arguments.end()}, stream_.end_capture()});
    if (replays_.size() > kMostGraphs) replays_.pop_back();
    return &replays_.front().graph;
  }

  cuda::DevicePtr device_;
  cuda::Stream stream_;
  cuda::Event begin_, end_;
  cuda::Memory arena_, device_inputs_, delay_;
  std::vector<std::unique_ptr<Stage>> stages_;
  size_t next_stage_ = 0;
  std::vector<InputSlot> slots_;
  uint64_t input_bytes_ = 0;
  std::vector<Output> outputs_;
  std::list<Replay> replays_;  // the latest used first
  std::shared_ptr<RunsUnderWay> runs_ = std::make_shared<RunsUnderWay>();
};

}  // namespace

std::unique_ptr<StepMachine> make_gpu_machine(const LoadedEngine& engine, uint64_t arena_bytes, uint64_t input_bytes) {
  return std::make_unique<GpuMachine>(engine, arena_bytes, input_bytes);
}

}  // namespace ingot
