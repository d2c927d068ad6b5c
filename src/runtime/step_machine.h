// What an ExecutionContext runs its steps on: the memory of one context, and the way steps are started.
//
// The context resolves sizes and names; a machine says where things are and starts the steps in order. Inputs and
// outputs that callers bind are host memory; states and weights are the device's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/thread_pool.h"
#include "runtime/loaded_engine.h"
#include "runtime/readback.h"

namespace ingot {

// What an observer is told after each step: for taps and profiles.
struct ObservedStep {
  const Program& program;
  size_t index = 0;  // in program.steps
  const Step& step;
  std::span<const Argument> arguments;
  double microseconds = 0;
};
using StepObserver = std::function<void(const ObservedStep&)>;

class StepMachine {
 public:
  struct HostBuffer {
    std::byte* data = nullptr;  // null: not bound
    uint64_t bytes = 0;
  };

  virtual ~StepMachine() = default;
  // Where the arena begins.
  virtual std::byte* arena() const = 0;
  // Where the steps of the coming run find an input of `bytes` bytes, or leave an output, that the caller has bound to
  // `host`. An output that is not bound gets memory for `largest` bytes. Called for every buffer of a program, in its
  // order; a buffer that is used twice is asked for twice. begin_layout() comes before; all inputs together take at
  // most `input_bytes`, each rounded up to kGpuInputAlignment.
  virtual void begin_layout(uint64_t input_bytes) = 0;
  virtual std::byte* input(size_t index, HostBuffer host, uint64_t bytes) = 0;
  virtual std::byte* output(size_t index, HostBuffer host, uint64_t bytes, uint64_t largest) = 0;

  // Starts all steps of `program` with these arguments. What it starts runs in order; a machine that does not work by
  // itself has run them when it returns. The host may change bound inputs at once, bound outputs are there after
  // wait(). `repeated`: the arguments are those of the last run.
  virtual void start(const ResolvedProgram& program, std::span<const Argument> arguments, bool repeated,
                     const StepObserver& observer) = 0;
  // Until all that was started has run.
  virtual void wait() = 0;
  // Copies parts of the outputs of the last run that was started to the host, behind that run.
  virtual void read_back(std::span<const OutputPart> parts, Readback& to) = 0;
  // The host's view of an output of the last run, valid until the next.
  virtual std::byte* read_output(size_t index) = 0;
};

std::unique_ptr<StepMachine> make_cpu_machine(const LoadedEngine& engine, uint64_t arena_bytes, ThreadPool& threads);
constexpr uint64_t kGpuInputAlignment = 256;
// `input_bytes`: the largest that any run brings; much of that is taken when it is needed.
std::unique_ptr<StepMachine> make_gpu_machine(const LoadedEngine& engine, uint64_t arena_bytes, uint64_t input_bytes);

}  // namespace ingot
