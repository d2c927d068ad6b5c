#include "runtime/execution_context.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"

namespace ingot {

namespace {

template <class List>
size_t find_name(const List& list, std::string_view name, std::string_view what) {
  for (size_t i = 0; i < list.size(); ++i)
    if (list[i].name == name) return i;
  std::vector<std::string> names;
  for (const auto& member : list) names.push_back(member.name);
  fail(ErrorCode::kUsage, "the engine has no {} {}; it has {}", what, name, names.empty() ? "none" : join(names));
}

// The bytes of an input or output at the largest dimensions of any program; check_plan has ruled out overflow.
uint64_t largest_bytes(const std::vector<const ResolvedProgram*>& programs, BufferKind kind, size_t index) {
  uint64_t largest = 0;
  for (const ResolvedProgram* program : programs) {
    DimValues values;
    for (const DimRange& range : program->program->dims) values[range.symbol] = range.max;
    for (const Step& step : program->program->steps)
      for (const BufferRef& ref : step.buffers)
        if (ref.kind == kind && static_cast<size_t>(ref.index) == index)
          largest = std::max(largest, static_cast<uint64_t>(ref.type.at(values).bytes()));
  }
  return largest;
}

uint64_t bytes_of(const Argument& argument) {
  auto bytes = static_cast<uint64_t>(size_of(argument.dtype));
  for (int i = 0; i < argument.rank; ++i) bytes *= static_cast<uint64_t>(argument.size[static_cast<size_t>(i)]);
  return bytes;
}

}  // namespace

ExecutionContext::ExecutionContext(std::shared_ptr<const LoadedEngine> engine, std::shared_ptr<ThreadPool> threads,
                                   std::string_view entry)
    : engine_(std::move(engine)), threads_(std::move(threads)), programs_(engine_->programs(entry)) {
  if (programs_.empty()) fail(ErrorCode::kUsage, "the engine has no program for the entry {}", entry);
  const Plan& plan = engine_->plan();
  inputs_.resize(plan.inputs.size());
  outputs_.resize(plan.outputs.size());
  states_.resize(plan.states.size());
  uint64_t arena_bytes = 0;
  size_t arguments = 0;
  for (const ResolvedProgram* program : programs_) {
    arena_bytes = std::max(arena_bytes, program->program->arena_bytes);
    arguments = std::max(arguments, program->arguments.size());
  }
  for (size_t i = 0; i < outputs_.size(); ++i)
    largest_outputs_.push_back(largest_bytes(programs_, BufferKind::kOutput, i));
  if (engine_->device()) {
    uint64_t input_bytes = 0;
    for (size_t i = 0; i < inputs_.size(); ++i)
      input_bytes += largest_bytes(programs_, BufferKind::kInput, i) + kGpuInputAlignment;
    machine_ = make_gpu_machine(*engine_, arena_bytes, input_bytes);
  } else {
    machine_ = make_cpu_machine(*engine_, arena_bytes, *threads_);
  }
  arguments_.reserve(arguments);
  values_.resize(engine_->symbols().size());
  last_values_.reserve(values_.size());
  if (log_enabled(LogLevel::kDebug))
    observe([](const ObservedStep& step) {
      log_debug("step {} ({}): {:.1f} us", step.index, step.step.label, step.microseconds);
    });
}

void ExecutionContext::bind(std::vector<Binding>& list, size_t index, std::byte* data, uint64_t bytes) {
  Binding& binding = list[index];
  if (binding.data == data && binding.bytes == bytes) return;
  binding.data = data;
  binding.bytes = bytes;
  bindings_changed_ = true;
}

void ExecutionContext::bind_input(std::string_view name, std::span<const std::byte> memory) {
  bind(inputs_, find_name(engine_->plan().inputs, name, "input"), const_cast<std::byte*>(memory.data()), memory.size());
}

void ExecutionContext::bind_output(std::string_view name, std::span<std::byte> memory) {
  bind(outputs_, find_name(engine_->plan().outputs, name, "output"), memory.data(), memory.size());
}

void ExecutionContext::bind_state(std::string_view name, std::span<std::byte> memory) {
  bind(states_, find_name(engine_->plan().states, name, "state"), memory.data(), memory.size());
}

void* ExecutionContext::output(std::string_view name) const { return machine_->read_output(output_index(name)); }

size_t ExecutionContext::output_index(std::string_view name) const {
  return find_name(engine_->plan().outputs, name, "output");
}

void ExecutionContext::enqueue(const DimValues& dims) {
  const std::vector<std::string>& symbols = engine_->symbols();
  std::fill(values_.begin(), values_.end(), -1);
  size_t i = 0;  // both lists are sorted
  for (const auto& [name, value] : dims) {
    while (i < symbols.size() && symbols[i] < name) ++i;
    if (i < symbols.size() && symbols[i] == name) values_[i] = value;
  }
  enqueue(std::span<const int64_t>(values_));
}

void ExecutionContext::enqueue(std::span<const int64_t> values) {
  start(values);
  machine_->wait();
}

void ExecutionContext::start(std::span<const int64_t> values) {
  if (values.size() != engine_->symbols().size())
    fail(ErrorCode::kUsage, "{} dimension values for {} dimensions", values.size(), engine_->symbols().size());
  const ResolvedProgram& program = choose(values);
  bool same = active_ == &program && !bindings_changed_ && std::ranges::equal(values, last_values_);
  if (!same) {
    active_ = nullptr;
    prepare(program, values);
    last_values_.assign(values.begin(), values.end());
    active_ = &program;
    bindings_changed_ = false;
  }
  log_debug("{}", program.name);
  machine_->start(program, arguments_, same, observer_);
}

const ResolvedProgram& ExecutionContext::choose(std::span<const int64_t> values) const {
  for (const ResolvedProgram* program : programs_) {
    auto fits = [&](const ResolvedRange& range) {
      int64_t value = values[static_cast<size_t>(range.symbol)];
      return range.min <= value && value <= range.max;
    };
    if (std::all_of(program->ranges.begin(), program->ranges.end(), fits)) return *program;
  }
  refuse(values);
}

void ExecutionContext::refuse(std::span<const int64_t> values) const {
  for (size_t symbol = 0; symbol < values.size(); ++symbol) {
    int64_t min = INT64_MAX, max = -1;
    bool fits = false, used = false;
    for (const ResolvedProgram* program : programs_) {
      bool has_range = false;
      for (const ResolvedRange& range : program->ranges) {
        if (static_cast<size_t>(range.symbol) != symbol) continue;
        has_range = used = true;
        min = std::min(min, range.min);
        max = std::max(max, range.max);
        fits = fits || (range.min <= values[symbol] && values[symbol] <= range.max);
      }
      fits = fits || !has_range;
    }
    if (!used || fits) continue;
    const std::string& name = engine_->symbols()[symbol];
    if (values[symbol] < 0)
      fail(ErrorCode::kUsage, "the dimension {} has no value; the engine runs {} to {}", name, min, max);
    fail(ErrorCode::kUsage, "{} = {} is outside the range {} to {} that the engine was built for", name, values[symbol],
         min, max);
  }
  std::vector<std::string> found;
  for (size_t i = 0; i < values.size(); ++i) found.push_back(format("{} = {}", engine_->symbols()[i], values[i]));
  fail(ErrorCode::kUsage, "none of the engine's {} programs runs {} together", programs_.size(), join(found));
}

void ExecutionContext::prepare(const ResolvedProgram& program, std::span<const int64_t> values) {
  arguments_.clear();
  for (const ResolvedArgument& resolved : program.arguments) {
    Argument argument = resolved.argument;
    for (size_t i = 0; i < static_cast<size_t>(argument.rank); ++i) {
      const ResolvedDim& dim = resolved.dims[i];
      if (dim.symbol < 0) continue;
      int64_t value = values[static_cast<size_t>(dim.symbol)];
      if (value < 0)
        fail(ErrorCode::kUsage, "the dimension {} has no value", engine_->symbols()[static_cast<size_t>(dim.symbol)]);
      argument.size[i] = dim.scale * value + dim.offset;
    }
    arguments_.push_back(argument);
  }
  machine_->begin_layout(input_bytes(program));
  for (size_t i = 0; i < arguments_.size(); ++i)
    arguments_[i].data = address(program, program.arguments[i], arguments_[i]);
}

// Of all inputs that the program reads, as arguments_ has them.
uint64_t ExecutionContext::input_bytes(const ResolvedProgram& program) {
  uint64_t bytes = 0;
  counted_inputs_.assign(inputs_.size(), false);
  for (size_t i = 0; i < arguments_.size(); ++i) {
    const ResolvedArgument& resolved = program.arguments[i];
    if (resolved.kind != BufferKind::kInput || counted_inputs_[resolved.index]) continue;
    counted_inputs_[resolved.index] = true;
    bytes += (bytes_of(arguments_[i]) + kGpuInputAlignment - 1) / kGpuInputAlignment * kGpuInputAlignment;
  }
  return bytes;
}

std::byte* ExecutionContext::address(const ResolvedProgram& program, const ResolvedArgument& resolved,
                                     const Argument& argument) {
  uint64_t needed = bytes_of(argument);
  switch (resolved.kind) {
    case BufferKind::kArena:
      return machine_->arena() + resolved.offset;
    case BufferKind::kWeight:
      return const_cast<std::byte*>(resolved.weight);
    case BufferKind::kState:
      check_bound(program, resolved, states_[resolved.index], needed);
      return states_[resolved.index].data;
    case BufferKind::kInput:
      check_bound(program, resolved, inputs_[resolved.index], needed);
      return machine_->input(resolved.index, inputs_[resolved.index], needed);
    case BufferKind::kOutput:
      break;
  }
  const Binding& binding = outputs_[resolved.index];
  if (binding.data) check_bound(program, resolved, binding, needed);
  return machine_->output(resolved.index, binding, needed, largest_outputs_[resolved.index]);
}

void ExecutionContext::check_bound(const ResolvedProgram& program, const ResolvedArgument& resolved,
                                   const Binding& binding, uint64_t needed) const {
  if (needed <= binding.bytes && (binding.data || needed == 0)) return;
  const Plan& plan = engine_->plan();
  const std::string& name = resolved.kind == BufferKind::kInput    ? plan.inputs[resolved.index].name
                            : resolved.kind == BufferKind::kOutput ? plan.outputs[resolved.index].name
                                                                   : plan.states[resolved.index].name;
  Scope scope(program.name);
  if (!binding.data) fail(ErrorCode::kUsage, "{} {} is not bound", enum_name(resolved.kind), name);
  fail(ErrorCode::kUsage, "{} {} needs {} bytes; {} are bound", enum_name(resolved.kind), name, needed, binding.bytes);
}

}  // namespace ingot
