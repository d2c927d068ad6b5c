#include <chrono>
#include <cstring>
#include <vector>

#include "runtime/memory.h"
#include "runtime/step_machine.h"

namespace ingot {

namespace {

class CpuMachine final : public StepMachine {
 public:
  CpuMachine(const LoadedEngine& engine, uint64_t arena_bytes, ThreadPool& threads)
      : arena_(arena_bytes, "the values between steps", true),
        threads_(threads),
        own_(engine.plan().outputs.size()),
        outputs_(engine.plan().outputs.size()) {}

  std::byte* arena() const override { return arena_.data(); }
  void begin_layout(uint64_t) override {}
  std::byte* input(size_t, HostBuffer host, uint64_t) override { return host.data; }
  std::byte* output(size_t index, HostBuffer host, uint64_t, uint64_t largest) override {
    if (!host.data && own_[index].size() < largest) own_[index] = LazyMemory(largest, "an output", true);
    return outputs_[index] = host.data ? host.data : own_[index].data();
  }
  std::byte* read_output(size_t index) override { return outputs_[index]; }

  void wait() override {}
  void read_back(std::span<const OutputPart> parts, Readback& to) override {
    std::byte* target = to.make_room(parts);
    for (const OutputPart& part : parts) {
      std::memcpy(target, outputs_[part.output] + part.offset, part.bytes);
      target += part.bytes;
    }
  }

  void start(const ResolvedProgram& program, std::span<const Argument> arguments, bool,
             const StepObserver& observer) override {
    using Clock = std::chrono::steady_clock;
    Launch launch;
    launch.threads = &threads_;
    for (size_t i = 0; i < program.steps.size(); ++i) {
      const ResolvedStep& step = program.steps[i];
      launch.arguments = arguments.subspan(step.first_argument, step.arguments);
      launch.scratch = arena_.data() + step.scratch_offset;
      if (!observer) {
        step.kernel->run(launch);
        continue;
      }
      auto start = Clock::now();
      step.kernel->run(launch);
      double microseconds = std::chrono::duration<double, std::micro>(Clock::now() - start).count();
      observer({*program.program, i, program.program->steps[i], launch.arguments, microseconds});
    }
  }

 private:
  LazyMemory arena_;
  ThreadPool& threads_;
  std::vector<LazyMemory> own_;  // of outputs that nobody bound
  std::vector<std::byte*> outputs_;
};

}  // namespace

std::unique_ptr<StepMachine> make_cpu_machine(const LoadedEngine& engine, uint64_t arena_bytes, ThreadPool& threads) {
  return std::make_unique<CpuMachine>(engine, arena_bytes, threads);
}

}  // namespace ingot
