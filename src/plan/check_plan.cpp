#include "plan/check_plan.h"

#include <algorithm>
#include <set>

#include "base/error.h"

namespace ingot {

namespace {

constexpr int64_t kMaxSize = int64_t{1} << 40;  // of one dimension
constexpr uint64_t kMaxBytes = uint64_t{1} << 46;
constexpr uint64_t kAlignment = 64;
constexpr size_t kMaxRank = 4;

template <class... T>
[[noreturn]] void refuse(format_string<T...> text, T&&... values) {
  throw Error(ErrorCode::kIncompatible, fmt::vformat(text, fmt::make_format_args(values...)));
}

template <class List>
void check_names(const List& list, std::string_view what) {
  std::set<std::string_view> seen;
  for (const auto& element : list) {
    if (element.name.empty()) refuse("{} has no name", what);
    if (!seen.insert(element.name).second) refuse("there are two {}s called {}", what, element.name);
  }
}

void check_within(uint64_t offset, uint64_t bytes, uint64_t limit, std::string_view what) {
  if (offset % kAlignment != 0) refuse("the {} offset {} is not a multiple of {}", what, offset, kAlignment);
  if (offset > limit || bytes > limit - offset)
    refuse("the {} range of {} bytes at {} exceeds the {} bytes there are", what, bytes, offset, limit);
}

class Checker {
 public:
  explicit Checker(const Plan& plan) : plan_(plan) {}

  void check() {
    check_names(plan_.inputs, "input");
    check_names(plan_.outputs, "output");
    check_row_major(plan_.inputs);
    check_row_major(plan_.outputs);
    check_names(plan_.groups, "cache group");
    check_names(plan_.states, "state");
    check_names(plan_.weights, "weight");
    check_names(plan_.modules, "module");
    for (const CacheGroup& group : plan_.groups)
      if (group.page_size < 1 || group.page_size > kMostPageSize || group.window < 0 || group.window > kMaxSize)
        refuse("cache group {}: page size {} and window {}", group.name, group.page_size, group.window);
    for (const PlanState& state : plan_.states) check_state(state);
    check_weights();
    check_modules();
    for (size_t i = 0; i < plan_.programs.size(); ++i) {
      Scope scope(format("program {}", i));
      check_program(plan_.programs[i]);
    }
  }

 private:
  void check_row_major(const std::vector<PlanInput>& list) const {
    for (const PlanInput& member : list)
      if (!member.type.layout.empty() || member.type.shape.size() > kMaxRank)
        refuse("{} has the type {}", member.name, print(member.type));
  }

  void check_state(const PlanState& state) const {
    Scope scope(format("state {}", state.name));
    const auto group = std::find_if(plan_.groups.begin(), plan_.groups.end(),
                                    [&](const CacheGroup& each) { return each.name == state.group; });
    if (!state.group.empty() && group == plan_.groups.end()) refuse("there is no cache group {}", state.group);
    const Shape& shape = state.type.shape;
    const std::string rows = state.group.empty() ? "seats" : "pool_pages." + state.group;
    if (shape.empty() || shape.front() != Dim(rows))
      refuse("the first dimension of {} is not {}", print(state.type), rows);
    TensorType page = state.type;
    page.shape.erase(page.shape.begin());
    if (!page.is_constant()) refuse("{} has more than one symbolic dimension", print(state.type));
    if (max_bytes(page, nullptr) == 0 || page.shape.size() >= kMaxRank) refuse("the type is {}", print(state.type));
    // [pages, heads, positions of a page, size of a head]
    if (!state.group.empty() && shape.size() == kMaxRank && shape[2] != Dim(group->page_size))
      refuse("{} holds other pages than the {} positions of its group", print(state.type), group->page_size);
  }

  void check_weights() const {
    uint64_t end = 0;
    for (const PlanWeight& weight : plan_.weights) {
      Scope scope(format("weight {}", weight.name));
      if (!weight.type.is_constant()) refuse("the type {} is not constant", print(weight.type));
      check_within(weight.offset, weight.bytes, kMaxBytes, "weight");
      if (weight.offset < end) refuse("the offset {} lies before the end {} of the weight before", weight.offset, end);
      uint64_t needed = max_bytes(weight.type, nullptr);
      if (weight.type.layout.empty() ? weight.bytes != needed : weight.bytes < needed)
        refuse("{} bytes are stored; {} needs {}", weight.bytes, print(weight.type), needed);
      end = weight.offset + weight.bytes;
    }
  }

  void check_modules() const {
    uint64_t end = 0;
    for (const PlanModule& module : plan_.modules) {
      Scope scope(format("module {}", module.name));
      check_within(module.offset, module.bytes, kMaxBytes, "module");
      if (module.offset < end) refuse("the offset {} lies before the end {} of the module before", module.offset, end);
      end = module.offset + module.bytes;
    }
  }

  void check_program(const Program& program) const {
    if (program.entry.empty()) refuse("the entry has no name");
    std::set<std::string_view> symbols;
    for (const DimRange& range : program.dims) {
      if (range.symbol.empty() || !symbols.insert(range.symbol).second)
        refuse("the dimension \"{}\" stands twice or has no name", range.symbol);
      if (range.min < 0 || range.min > range.opt || range.opt > range.max || range.max > kMaxSize)
        refuse("the dimension {} ranges from {} over {} to {}", range.symbol, range.min, range.opt, range.max);
    }
    if (program.arena_bytes > kMaxBytes) refuse("the arena has {} bytes", program.arena_bytes);
    for (size_t i = 0; i < program.steps.size(); ++i) {
      Scope scope(format("step {} ({})", i, program.steps[i].label));
      check_step(program.steps[i], program);
    }
  }

  void check_step(const Step& step, const Program& program) const {
    check_within(step.scratch_offset, step.scratch_bytes, program.arena_bytes, "scratch");
    if (step.origins.size() > step.buffers.size())
      refuse("there are {} lists of origins for {} buffers", step.origins.size(), step.buffers.size());
    for (size_t i = 0; i < step.buffers.size(); ++i) {
      Scope scope(format("buffer {}", i));
      check_buffer(step.buffers[i], program);
    }
  }

  void check_buffer(const BufferRef& ref, const Program& program) const {
    // A state's first dimension has no range: its memory belongs to the pool.
    uint64_t bytes = ref.kind == BufferKind::kState ? 0 : max_bytes(ref.type, &program);
    switch (ref.kind) {
      case BufferKind::kArena:
        if (ref.index != 0 || !ref.type.layout.empty()) refuse("arena buffer {} of {}", ref.index, print(ref.type));
        return check_within(ref.offset, bytes, program.arena_bytes, "arena");
      case BufferKind::kWeight:
        return check_member(ref, plan_.weights, "weight");
      case BufferKind::kState:
        return check_member(ref, plan_.states, "state");
      case BufferKind::kInput:
        return check_member(ref, plan_.inputs, "input");
      case BufferKind::kOutput:
        return check_member(ref, plan_.outputs, "output");
    }
  }

  template <class List>
  void check_member(const BufferRef& ref, const List& list, std::string_view what) const {
    if (ref.index < 0 || static_cast<size_t>(ref.index) >= list.size())
      refuse("there is no {} {}; there are {}", what, ref.index, list.size());
    const auto& member = list[static_cast<size_t>(ref.index)];
    if (ref.offset != 0 || ref.type != member.type)
      refuse("{} {} is {}, not {} at {}", what, member.name, print(member.type), print(ref.type), ref.offset);
  }

  // At the largest dimensions of `program`, or of a constant type. A stored layout adds padding to this.
  uint64_t max_bytes(const TensorType& type, const Program* program) const {
    if (type.shape.size() > kMaxRank) refuse("{} has more than {} dimensions", print(type), kMaxRank);
    uint64_t bytes = static_cast<uint64_t>(size_of(type.dtype));
    bool empty = false;
    for (const Dim& dim : type.shape) {
      int64_t size = max_size(dim, type, program);
      empty = empty || size == 0;
      if (size > 0 && __builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes)) bytes = kMaxBytes + 1;
      if (bytes > kMaxBytes) refuse("{} is too large", print(type));
    }
    return empty ? 0 : bytes;
  }

  int64_t max_size(const Dim& dim, const TensorType& type, const Program* program) const {
    int64_t low = dim.offset, high = dim.offset;
    if (!dim.is_constant()) {
      const DimRange* range = nullptr;
      if (program)
        for (const DimRange& candidate : program->dims)
          if (candidate.symbol == dim.symbol) range = &candidate;
      if (!range) refuse("the dimension {} of {} has no range", dim.symbol, print(type));
      bool overflow = dim.scale < 1 || __builtin_mul_overflow(dim.scale, range->min, &low) ||
                      __builtin_mul_overflow(dim.scale, range->max, &high) ||
                      __builtin_add_overflow(low, dim.offset, &low) || __builtin_add_overflow(high, dim.offset, &high);
      if (overflow) refuse("the dimension {} of {} overflows", print(dim), print(type));
    }
    if (low < 0 || high > kMaxSize) refuse("{} has a dimension between {} and {}", print(type), low, high);
    return high;
  }

  const Plan& plan_;
};

}  // namespace

void check_plan(const Plan& plan) { Checker(plan).check(); }

uint64_t weight_section_bytes(const Plan& plan) {
  return plan.weights.empty() ? 0 : plan.weights.back().offset + plan.weights.back().bytes;
}

uint64_t module_section_bytes(const Plan& plan) {
  return plan.modules.empty() ? 0 : plan.modules.back().offset + plan.modules.back().bytes;
}

}  // namespace ingot
