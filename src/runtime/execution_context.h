// One run's state of any network: bind memory by name, enqueue, read the outputs.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "runtime/loaded_engine.h"
#include "runtime/step_machine.h"

namespace ingot {

// Not safe for use from several threads at once; any number of contexts may share an engine.
class ExecutionContext {
 public:
  // Throws an Error when the engine has no program for `entry`. `threads` may be shared by contexts that do not run at
  // the same time.
  ExecutionContext(std::shared_ptr<const LoadedEngine> engine, std::shared_ptr<ThreadPool> threads,
                   std::string_view entry = "main");

  // Inputs and outputs are host memory, states memory of the engine's device. The memory stays the caller's and must
  // live until it is bound again. enqueue() throws when it is smaller than the run needs. An unknown name is an Error
  // that lists the known ones.
  void bind_input(std::string_view name, std::span<const std::byte> memory);
  void bind_output(std::string_view name, std::span<std::byte> memory);
  void bind_state(std::string_view name, std::span<std::byte> memory);

  // Starts the cheapest program whose ranges hold all of `dims`, and waits. An Error (kUsage) names the dimension and
  // the range when there is none, and what is not bound. Names that the engine does not use are ignored.
  void enqueue(const DimValues& dims);
  // The same with one value per LoadedEngine::symbols(); -1 for those that have none.
  void enqueue(std::span<const int64_t> values);
  // The same without waiting where the device works by itself. Runs go in the order of their starts; the memory of
  // inputs may change at once.
  void start(std::span<const int64_t> values);
  // Sends parts of the outputs of the run that was started last to the host.
  void read_back(std::span<const OutputPart> parts, Readback& to) { machine_->read_back(parts, to); }
  // The place of an output in the plan.
  size_t output_index(std::string_view name) const;

  // The output of the last run, on the host: what was bound, else memory of the context, valid until the next run.
  void* output(std::string_view name) const;

  // The program that the last run used.
  const Program* last_program() const { return active_ ? active_->program : nullptr; }
  // A machine that works by itself waits for every step then, and the Error of a step that fails names it. While the
  // log shows debug lines, a new context has an observer that writes one for each step.
  void observe(StepObserver observer) { observer_ = std::move(observer); }

  const LoadedEngine& engine() const { return *engine_; }
  ThreadPool& threads() { return *threads_; }

 private:
  using Binding = StepMachine::HostBuffer;  // of a state: memory of the device

  void bind(std::vector<Binding>& list, size_t index, std::byte* data, uint64_t bytes);
  const ResolvedProgram& choose(std::span<const int64_t> values) const;
  [[noreturn]] void refuse(std::span<const int64_t> values) const;
  void prepare(const ResolvedProgram& program, std::span<const int64_t> values);
  uint64_t input_bytes(const ResolvedProgram& program);
  std::byte* address(const ResolvedProgram& program, const ResolvedArgument& resolved, const Argument& argument);
  void check_bound(const ResolvedProgram& program, const ResolvedArgument& resolved, const Binding& binding,
                   uint64_t needed) const;

  std::shared_ptr<const LoadedEngine> engine_;
  std::shared_ptr<ThreadPool> threads_;
  std::vector<const ResolvedProgram*> programs_;
  std::vector<Binding> inputs_, outputs_, states_;
  std::vector<uint64_t> largest_outputs_;  // bytes
  std::vector<bool> counted_inputs_;
  std::unique_ptr<StepMachine> machine_;
  std::vector<Argument> arguments_;  // of every step of the active program
  std::vector<int64_t> values_, last_values_;
  const ResolvedProgram* active_ = nullptr;
  bool bindings_changed_ = true;
  StepObserver observer_;
};

}  // namespace ingot
