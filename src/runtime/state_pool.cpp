#include "runtime/state_pool.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "base/error.h"

namespace ingot {

namespace {

// Slots are i32: page * page_size + offset.
constexpr int64_t kMaxSlots = INT32_MAX;

// What the programs allow for pool_pages.GROUP.
int64_t largest_pool(const Plan& plan, const std::string& group) {
  int64_t largest = kMaxSlots;
  for (const Program& program : plan.programs)
    for (const DimRange& range : program.dims)
      if (range.symbol == "pool_pages." + group) largest = std::min(largest, range.max);
  return largest;
}

}  // namespace

StatePool::StatePool(const Plan& plan, const StatePoolOptions& options)
    : device_(options.device), budget_bytes_(options.budget_bytes) {
  states_.resize(plan.states.size());
  groups_.resize(plan.groups.size());
  uint64_t least = 0;
  for (size_t i = 0; i < plan.groups.size(); ++i) {
    add_group(plan, i, i < options.max_pages.size() ? options.max_pages[i] : 0);
    least += groups_[i].statistics.page_bytes;
  }
  if (least > budget_bytes_)
    fail(ErrorCode::kDoesNotFit, "the KV cache has {}; one page of every group needs {}: give it more memory",
         print_bytes(static_cast<double>(budget_bytes_)), print_bytes(static_cast<double>(least)));
  if (device_) share_out(options.shares);
  allocate_states();
  allocate_seats(plan, options.seats);
}

// Cuts the capacities down so that all groups together stay within the budget.
void StatePool::share_out(const std::vector<int64_t>& shares) {
  double total = 0;
  auto wanted = [&](size_t i) {
    double pages = i < shares.size() && shares[i] > 0 ? static_cast<double>(shares[i]) : 1.0;
    return pages * static_cast<double>(groups_[i].statistics.page_bytes);
  };
  for (size_t i = 0; i < groups_.size(); ++i) total += wanted(i);
  for (size_t i = 0; i < groups_.size(); ++i) {
    GroupStatistics& statistics = groups_[i].statistics;
    if (statistics.page_bytes == 0) continue;
    double bytes = static_cast<double>(budget_bytes_) * wanted(i) / total;
    auto pages = static_cast<int64_t>(bytes / static_cast<double>(statistics.page_bytes));
    statistics.capacity = std::clamp<int64_t>(pages, 1, statistics.capacity);
  }
}

void StatePool::allocate_states() {
  for (Group& group : groups_)
    for (size_t index : group.states) {
      State& state = states_[index];
      allocate(state, static_cast<uint64_t>(group.statistics.capacity) * state.page_bytes, "the KV cache");
    }
}

void StatePool::allocate_seats(const Plan& plan, int64_t seats) {
  for (size_t i = 0; i < plan.states.size(); ++i)
    if (plan.states[i].group.empty())
      allocate(states_[i], static_cast<uint64_t>(plan.states[i].type.at({{"seats", seats}}).bytes()), "the seats");
}

void StatePool::allocate(State& state, uint64_t bytes, std::string_view what) {
  if (device_)
    state.on_gpu = cuda::Memory(device_, bytes, what);
  else
    state.memory = LazyMemory(bytes, what, false);
}

void StatePool::add_group(const Plan& plan, size_t index, int64_t max_pages) {
  Group& group = groups_[index];
  GroupStatistics& statistics = group.statistics;
  for (size_t i = 0; i < plan.states.size(); ++i) {
    if (plan.states[i].group != plan.groups[index].name) continue;
    TensorType page = plan.states[i].type;
    page.shape.erase(page.shape.begin());
    states_[i].page_bytes = static_cast<uint64_t>(page.bytes());
    statistics.page_bytes += states_[i].page_bytes;
    group.states.push_back(i);
  }
  int64_t capacity = std::min(kMaxSlots / plan.groups[index].page_size, largest_pool(plan, plan.groups[index].name));
  if (max_pages > 0) capacity = std::min(capacity, max_pages);
  if (statistics.page_bytes > 0)
    capacity =
        std::min(capacity, static_cast<int64_t>(std::min<uint64_t>(budget_bytes_ / statistics.page_bytes, INT64_MAX)));
  statistics.capacity = capacity;
}

std::span<std::byte> StatePool::state(size_t index) const { return {states_[index].data(), states_[index].size()}; }

bool StatePool::has_room(std::span<const int64_t> pages) const {
  uint64_t bytes = used_bytes_;
  for (size_t i = 0; i < groups_.size(); ++i) {
    const GroupStatistics& statistics = groups_[i].statistics;
    if (statistics.used + pages[i] > statistics.capacity) return false;
    bytes += static_cast<uint64_t>(pages[i]) * statistics.page_bytes;
  }
  return bytes <= budget_bytes_;
}

bool StatePool::could_hold(std::span<const int64_t> pages) const {
  uint64_t bytes = 0;
  for (size_t i = 0; i < groups_.size(); ++i) {
    if (pages[i] > groups_[i].statistics.capacity) return false;
    bytes += static_cast<uint64_t>(pages[i]) * groups_[i].statistics.page_bytes;
  }
  return bytes <= budget_bytes_;
}

std::optional<int32_t> StatePool::allocate(size_t index) {
  Group& group = groups_[index];
  GroupStatistics& statistics = group.statistics;
  if (statistics.used == statistics.capacity || used_bytes_ + statistics.page_bytes > budget_bytes_)
    return std::nullopt;
  int32_t page = 0;
  if (!group.touched.empty()) {
    page = group.touched.back();
    group.touched.pop_back();
  } else {
    make_room_in_memory(statistics.page_bytes);
    if (!group.untouched.empty()) {
      page = group.untouched.back();
      group.untouched.pop_back();
    } else {
      page = static_cast<int32_t>(group.references.size());
      group.references.push_back(0);
    }
    resident_bytes_ += statistics.page_bytes;
  }
  group.references[static_cast<size_t>(page)] = 1;
  statistics.peak_used = std::max(statistics.peak_used, ++statistics.used);
  used_bytes_ += statistics.page_bytes;
  return page;
}

// Gives memory of free pages back until `bytes` more stay within the budget. There are enough: what is used does.
void StatePool::make_room_in_memory(uint64_t bytes) {
  for (Group& group : groups_) {
    while (!device_ && resident_bytes_ + bytes > budget_bytes_ && !group.touched.empty()) {
      int32_t page = group.touched.back();
      group.touched.pop_back();
      group.untouched.push_back(page);
      for (size_t state : group.states)
        states_[state].memory.drop(static_cast<uint64_t>(page) * states_[state].page_bytes, states_[state].page_bytes);
      resident_bytes_ -= group.statistics.page_bytes;
    }
  }
}

int32_t StatePool::references(size_t group, int32_t page) const {
  return groups_[group].references[static_cast<size_t>(page)];
}

void StatePool::retain(size_t group, int32_t page) {
  assert(references(group, page) > 0);
  ++groups_[group].references[static_cast<size_t>(page)];
}

void StatePool::release(size_t index, int32_t page) {
  Group& group = groups_[index];
  assert(references(index, page) > 0);
  if (--group.references[static_cast<size_t>(page)] > 0) return;
  group.touched.push_back(page);
  --group.statistics.used;
  used_bytes_ -= group.statistics.page_bytes;
}

void StatePool::copy_page(State& state, int32_t from, int32_t to) {
  std::byte* source = state.data() + static_cast<uint64_t>(from) * state.page_bytes;
  std::byte* target = state.data() + static_cast<uint64_t>(to) * state.page_bytes;
  if (!device_) {
    std::memcpy(target, source, state.page_bytes);
    return;
  }
  cuda::Stream stream(device_);
  stream.copy(target, source, state.page_bytes);
  stream.synchronize();
}

std::optional<int32_t> StatePool::writable(size_t index, int32_t page) {
  if (references(index, page) == 1) return page;
  std::optional<int32_t> copy = allocate(index);
  if (!copy) return std::nullopt;
  Group& group = groups_[index];
  for (size_t state : group.states) copy_page(states_[state], page, *copy);
  ++group.statistics.copies;
  release(index, page);
  return copy;
}

}  // namespace ingot
