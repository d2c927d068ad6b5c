// The memory of the states: pages of the KV cache, given out one by one under one budget for all cache groups.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "device/cuda/device.h"
#include "plan/plan.h"
#include "runtime/memory.h"

namespace ingot {

struct StatePoolOptions {
  uint64_t budget_bytes = 0;       // of used pages, all groups together
  std::vector<int64_t> max_pages;  // per group; missing or 0: as many as the budget holds
  // Where the states are; null: on the host. Memory of a GPU is taken at once, so there groups share the budget out in
  // proportion to what `shares` pages of each take (missing: equal shares).
  cuda::DevicePtr device = {};
  std::vector<int64_t> shares = {};
  int64_t seats = 1;  // rows of states that belong to no group; their memory is no part of the budget
};

struct GroupStatistics {
  int64_t capacity = 0;  // pages that this group may use when the others use none
  int64_t used = 0, peak_used = 0;
  int64_t copies = 0;  // pages copied on write
  uint64_t page_bytes = 0;
};

// A page of a group is one page in each of its states. Buffers are reserved for the whole capacity and paid for when
// first touched, so that on the host any group may take the whole budget; a page that is free but was touched is given
// back to the system when another group needs its memory. Not safe for use from several threads at once.
class StatePool {
 public:
  // Throws an Error with ErrorCode::kDoesNotFit when the budget does not hold one page of every group.
  StatePool(const Plan& plan, const StatePoolOptions& options);

  size_t groups() const { return groups_.size(); }
  int64_t capacity(size_t group) const { return groups_[group].statistics.capacity; }
  const GroupStatistics& statistics(size_t group) const { return groups_[group].statistics; }
  uint64_t used_bytes() const { return used_bytes_; }
  uint64_t budget_bytes() const { return budget_bytes_; }
  // The memory of a state, by its place in the plan: capacity(group) pages, or a row for each seat.
  std::span<std::byte> state(size_t index) const;

  // Whether so many more pages of each group could be allocated now.
  bool has_room(std::span<const int64_t> pages) const;
  // Whether they could if nothing were in use.
  bool could_hold(std::span<const int64_t> pages) const;

  // A page with one reference, of any content; nullopt when the budget or the group is used up.
  std::optional<int32_t> allocate(size_t group);
  void retain(size_t group, int32_t page);
  // Drops a reference; the page is free when it was the last.
  void release(size_t group, int32_t page);
  int32_t references(size_t group, int32_t page) const;
  // A page with the content of `page` that nobody else refers to: `page` itself, or a copy that takes over the caller's
  // reference. nullopt when there is no page for the copy; the reference is kept then. On a GPU the copy waits for no
  // run: those that write the page, or wrote to pages released since, must have ended.
  std::optional<int32_t> writable(size_t group, int32_t page);

 private:
  struct State {
    std::byte* data() const { return on_gpu.size() ? on_gpu.data() : memory.data(); }
    uint64_t size() const { return on_gpu.size() ? on_gpu.size() : memory.size(); }
    LazyMemory memory;
    cuda::Memory on_gpu;
    uint64_t page_bytes = 0;
  };
  struct Group {
    std::vector<size_t> states;
    std::vector<int32_t> references;          // per page that was ever used
    std::vector<int32_t> touched, untouched;  // free pages whose memory is, or is not, held
    GroupStatistics statistics;
  };

  void add_group(const Plan& plan, size_t index, int64_t max_pages);
  void share_out(const std::vector<int64_t>& shares);
  void allocate_states();
  void allocate_seats(const Plan& plan, int64_t seats);
  void allocate(State& state, uint64_t bytes, std::string_view what);
  void copy_page(State& state, int32_t from, int32_t to);
  void make_room_in_memory(uint64_t bytes);

  std::vector<Group> groups_;
  std::vector<State> states_;
  cuda::DevicePtr device_;
  uint64_t budget_bytes_ = 0, used_bytes_ = 0;
  uint64_t resident_bytes_ = 0;  // used pages and free ones that were touched
};

}  // namespace ingot
