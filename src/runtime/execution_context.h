// One run's state of any network: bind memory by name, enqueue, read the outputs.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "runtime/loaded_engine.h"
#include "runtime/memory.h"

namespace ingot {

// What an observer is told after each step: for taps and profiles.
struct ObservedStep {
  const Program& program;
  size_t index = 0;  // in program.steps
  const Step& step;
  std::span<const Argument> arguments;
  double microseconds = 0;
};

// Not safe for use from several threads at once; any number of contexts may share an engine.
class ExecutionContext {
 public:
  // Throws an Error when the engine has no program for `entry`. `threads` may be shared by contexts that do not run at
  // the same time.
  ExecutionContext(std::shared_ptr<const LoadedEngine> engine, std::shared_ptr<ThreadPool> threads,
                   std::string_view entry = "main");

  // The memory stays the caller's and must live until it is bound again. enqueue() throws when it is smaller than the
  // run needs. An unknown name is an Error that lists the known ones.
  void bind_input(std::string_view name, std::span<const std::byte> memory);
  void bind_output(std::string_view name, std::span<std::byte> memory);
  void bind_state(std::string_view name, std::span<std::byte> memory);

  // Runs the cheapest program whose ranges hold all of `dims`, and waits. An Error (kUsage) names the dimension and the
  // range when there is none, and what is not bound. Names that the engine does not use are ignored.
  void enqueue(const DimValues& dims);
  // The same with one value per LoadedEngine::symbols(); -1 for those that have none.
  void enqueue(std::span<const int64_t> values);

  // The output of the last run: what was bound, else memory of the context, valid until the next run.
  void* output(std::string_view name) const;

  // The program that the last run used.
  const Program* last_program() const { return active_ ? active_->program : nullptr; }
  void observe(std::function<void(const ObservedStep&)> observer) { observer_ = std::move(observer); }

  const LoadedEngine& engine() const { return *engine_; }
  ThreadPool& threads() { return *threads_; }

 private:
  struct Binding {
    std::byte* data = nullptr;
    uint64_t bytes = 0;
    LazyMemory own;  // of an output that nobody bound
  };

  void bind(std::vector<Binding>& list, size_t index, std::byte* data, uint64_t bytes);
  const ResolvedProgram& choose(std::span<const int64_t> values) const;
  [[noreturn]] void refuse(std::span<const int64_t> values) const;
  void prepare(const ResolvedProgram& program, std::span<const int64_t> values);
  std::byte* address(const ResolvedProgram& program, const ResolvedArgument& resolved, const Argument& argument);
  void run_steps(const ResolvedProgram& program);

  std::shared_ptr<const LoadedEngine> engine_;
  std::shared_ptr<ThreadPool> threads_;
  std::vector<const ResolvedProgram*> programs_;
  std::vector<Binding> inputs_, outputs_, states_;
  LazyMemory arena_;
  std::vector<Argument> arguments_;  // of every step of the active program
  std::vector<int64_t> values_, last_values_;
  const ResolvedProgram* active_ = nullptr;
  bool bindings_changed_ = true;
  std::function<void(const ObservedStep&)> observer_;
};

}  // namespace ingot
