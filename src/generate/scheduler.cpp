#include "generate/scheduler.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "base/error.h"

namespace ingot {

namespace {
int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
}  // namespace

Scheduler::Scheduler(std::vector<CacheGroup> groups, StatePool& pool, ScheduleLimits limits)
    : groups_(std::move(groups)), pool_(pool), limits_(std::move(limits)) {
  assert(groups_.size() == pool_.groups());
  limits_.max_pages.resize(groups_.size(), 0);
}

// --- requests ----------------------------------------------------------------------------------------------------

void Scheduler::add(ScheduledRequest request) {
  auto tokens = static_cast<int64_t>(request.tokens.size());
  if (tokens == 0) fail(ErrorCode::kUsage, "the prompt is empty: it needs at least one token");
  if (request.max_new_tokens > limits_.max_seq_len || tokens + request.max_new_tokens > limits_.max_seq_len)
    fail(ErrorCode::kUsage, "{} prompt tokens and {} new ones exceed the engine's max_seq_len of {}", tokens,
         request.max_new_tokens, limits_.max_seq_len);
  // The last new token is never fed back.
  int64_t length = tokens + std::max<int64_t>(request.max_new_tokens, 1) - 1;
  if (!fits_alone(length))
    fail(ErrorCode::kDoesNotFit,
         "{} prompt tokens and {} new ones do not fit the KV cache of {}, which holds {} tokens: give it more memory",
         tokens, request.max_new_tokens, print_bytes(static_cast<double>(pool_.budget_bytes())),
         longest_sequence(limits_.max_seq_len));
  if (by_id_.contains(request.id)) fail(ErrorCode::kUsage, "there is already a request {}", request.id);
  auto sequence = std::make_unique<Sequence>();
  sequence->request = std::move(request);
  sequence->tables.resize(groups_.size());
  by_id_[sequence->request.id] = sequence.get();
  waiting_.push_back(std::move(sequence));
}

// A sequence alone goes on token by token when nothing more fits, so a window needs the pages of one query's view.
bool Scheduler::fits_alone(int64_t length) const {
  std::vector<int64_t> pages;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const CacheGroup& group = groups_[g];
    int64_t needed = ceil_div(length, group.page_size);
    if (group.window > 0) needed = std::min(needed, (group.window + group.page_size - 2) / group.page_size + 1);
    if (limits_.max_pages[g] > 0 && needed > limits_.max_pages[g]) return false;
    pages.push_back(needed);
  }
  return pool_.could_hold(pages);
}

int64_t Scheduler::longest_sequence(int64_t most) const {
  int64_t low = 0, high = most;
  while (low < high) {
    int64_t middle = high - (high - low) / 2;
    if (fits_alone(middle))
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

void Scheduler::append(uint64_t id, int32_t token) {
  Sequence& sequence = *by_id_.at(id);
  assert(sequence.left() == 0);
  sequence.request.tokens.push_back(token);
}

void Scheduler::promise(uint64_t id) {
  Sequence& sequence = *by_id_.at(id);
  assert(sequence.left() == 0 && sequence.seat >= 0);
  sequence.request.tokens.push_back(-(sequence.seat + 1));
  ++sequence.promised;
}

void Scheduler::keep_promise(uint64_t id, int32_t token) {
  Sequence& sequence = *by_id_.at(id);
  assert(sequence.promised > 0);
  sequence.request.tokens[static_cast<size_t>(sequence.length() - sequence.promised--)] = token;
}

void Scheduler::remove(uint64_t id) {
  auto found = by_id_.find(id);
  if (found == by_id_.end()) return;
  Sequence* sequence = found->second;
  release(*sequence);
  by_id_.erase(found);
  auto is_it = [&](const SequencePtr& entry) { return entry.get() == sequence; };
  std::erase_if(running_, is_it);
  std::erase_if(waiting_, is_it);
}

std::span<const int32_t> Scheduler::pages(uint64_t id, size_t group) const {
  return by_id_.at(id)->tables[group].pages;
}

void Scheduler::take_seat(Sequence& sequence) {
  if (free_seats_.empty()) free_seats_.push_back(seats_++);
  sequence.seat = free_seats_.back();
  free_seats_.pop_back();
}

void Scheduler::release(Sequence& sequence) {
  if (sequence.seat >= 0) free_seats_.push_back(std::exchange(sequence.seat, -1));
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (int32_t page : sequence.tables[g].pages) pool_.release(g, page);
    sequence.tables[g] = {};
  }
  sequence.computed = 0;
}

// --- one step ----------------------------------------------------------------------------------------------------

bool Scheduler::next(StepBatch& batch) {
  batch.clear(groups_.size());
  stalled_ = false;
  Room room{limits_.max_num_tokens, limits_.max_outputs, limits_.max_pages};
  for (size_t g = 0; g < groups_.size(); ++g)
    if (room.pages[g] == 0) room.pages[g] = INT64_MAX;
  for (const SequencePtr& sequence : running_) {
    sequence->planned = false;
    drop_unseen_pages(*sequence);
  }
  schedule_running(batch, room, true);
  schedule_running(batch, room, false);
  if (!stalled_) admit(batch, room);
  return batch.tokens() > 0;
}

void Scheduler::schedule_running(StepBatch& batch, Room& room, bool decodes) {
  // By index: a preemption removes sequences from the end.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    if (sequence.planned || sequence.left() == 0 || (sequence.left() == 1) != decodes) continue;
    while (!schedule(sequence, batch, room))
      if (wanted_tokens(sequence, room) == 0 || pool_has_room(sequence, 1) || !preempt_after(sequence)) {
        stalled_ = true;
        break;
      }
  }
}

void Scheduler::admit(StepBatch& batch, Room& room) {
  while (!waiting_.empty() && static_cast<int64_t>(running_.size()) < limits_.max_batch_size) {
    Sequence& sequence = *waiting_.front();
    if (wanted_tokens(sequence, room) == 0 || !may_admit(sequence) || !schedule(sequence, batch, room)) return;
    take_seat(sequence);
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

// Whether the pool has room for all that the sequence and those admitted before it hold or are about to compute, and
// for one more page of each running one: else it would soon be preempted again.
bool Scheduler::may_admit(const Sequence& sequence) const {
  if (running_.empty()) return true;
  std::vector<int64_t> pages(groups_.size());
  for (size_t g = 0; g < groups_.size(); ++g) {
    pages[g] = pages_to_finish(sequence, g) + static_cast<int64_t>(running_.size());
    for (const SequencePtr& other : running_) pages[g] += pages_to_finish(*other, g);
  }
  return pool_.has_room(pages);
}

// The pages beyond those held that a sequence needs at once until all its known tokens have run.
int64_t Scheduler::pages_to_finish(const Sequence& sequence, size_t group) const {
  const CacheGroup& cache = groups_[group];
  int64_t needed = ceil_div(sequence.length(), cache.page_size);
  if (cache.window > 0) {
    int64_t chunk = std::min(sequence.left(), limits_.max_num_tokens);
    needed = std::min(needed, ceil_div(cache.window + chunk, cache.page_size) + 1);
  }
  return std::max<int64_t>(0, needed - static_cast<int64_t>(sequence.tables[group].pages.size()));
}

int64_t Scheduler::wanted_tokens(const Sequence& sequence, const Room& room) const {
  int64_t wanted = std::min(sequence.left(), room.tokens);
  if (sequence.request.max_chunk > 0) wanted = std::min(wanted, sequence.request.max_chunk);
  if (sequence.request.every_position) return std::min(wanted, room.outputs);
  if (wanted == sequence.left() && room.outputs == 0) --wanted;  // the last token gives logits
  return wanted;
}

// Plans as many tokens of the sequence as there is room for; false when there is none for a single one.
bool Scheduler::schedule(Sequence& sequence, StepBatch& batch, Room& room) {
  int64_t tokens = largest_chunk(sequence, wanted_tokens(sequence, room), room);
  if (tokens == 0) return false;
  write(sequence, tokens, batch, room);
  return true;
}

int64_t Scheduler::largest_chunk(const Sequence& sequence, int64_t wanted, const Room& room) const {
  int64_t low = 0, high = wanted;
  while (low < high) {
    int64_t middle = high - (high - low) / 2;
    if (chunk_fits(sequence, middle, room))
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

int64_t Scheduler::missing_pages(const Sequence& sequence, size_t group, int64_t tokens) const {
  const PageTable& table = sequence.tables[group];
  int64_t end = ceil_div(sequence.computed + tokens, groups_[group].page_size);
  return std::max<int64_t>(0, end - table.first_page - static_cast<int64_t>(table.pages.size()));
}

bool Scheduler::pool_has_room(const Sequence& sequence, int64_t tokens) const {
  std::vector<int64_t> missing;
  for (size_t g = 0; g < groups_.size(); ++g) missing.push_back(missing_pages(sequence, g, tokens));
  return pool_.has_room(missing);
}

bool Scheduler::chunk_fits(const Sequence& sequence, int64_t tokens, const Room& room) const {
  for (size_t g = 0; g < groups_.size(); ++g) {
    auto held = static_cast<int64_t>(sequence.tables[g].pages.size());
    if (held + missing_pages(sequence, g, tokens) > room.pages[g]) return false;
  }
  return pool_has_room(sequence, tokens);
}

// The next query stands at `computed` and sees the last `window` positions up to its own.
void Scheduler::drop_unseen_pages(Sequence& sequence) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    const CacheGroup& group = groups_[g];
    if (group.window == 0) continue;
    PageTable& table = sequence.tables[g];
    int64_t first_seen = std::max<int64_t>(0, sequence.computed - group.window + 1) / group.page_size;
    int64_t count = std::min(first_seen - table.first_page, static_cast<int64_t>(table.pages.size()));
    if (count <= 0) continue;
    for (int64_t i = 0; i < count; ++i) pool_.release(g, table.pages[static_cast<size_t>(i)]);
    table.pages.erase(table.pages.begin(), table.pages.begin() + count);
    table.first_page += count;
  }
}

void Scheduler::write(Sequence& sequence, int64_t tokens, StepBatch& batch, Room& room) {
  int64_t begin = sequence.computed, end = begin + tokens;
  for (int64_t position = begin; position < end; ++position) {
    bool last = position + 1 == sequence.length();
    if (last || sequence.request.every_position) {
      batch.output_rows.push_back(static_cast<int32_t>(batch.ids.size()));
      batch.outputs.push_back({sequence.request.id, position});
      --room.outputs;
    }
    batch.ids.push_back(sequence.request.tokens[static_cast<size_t>(position)]);
    batch.positions.push_back(static_cast<int32_t>(position));
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    write_group(sequence, g, tokens, batch.groups[g]);
    room.pages[g] -= static_cast<int64_t>(sequence.tables[g].pages.size());
  }
  batch.query_starts.push_back(static_cast<int32_t>(batch.ids.size()));
  batch.context_lengths.push_back(static_cast<int32_t>(end));
  batch.requests.push_back(sequence.request.id);
  room.tokens -= tokens;
  sequence.computed = end;
  sequence.planned = true;
}

void Scheduler::write_group(Sequence& sequence, size_t g, int64_t tokens, StepBatch::Group& out) {
  PageTable& table = sequence.tables[g];
  int64_t page_size = groups_[g].page_size;
  for (int64_t missing = missing_pages(sequence, g, tokens); missing > 0; --missing) {
    std::optional<int32_t> page = pool_.allocate(g);
    assert(page);  // chunk_fits has asked
    table.pages.push_back(*page);
  }
  for (int64_t position = sequence.computed; position < sequence.computed + tokens; ++position) {
    int32_t page = table.pages[static_cast<size_t>(position / page_size - table.first_page)];
    out.slots.push_back(static_cast<int32_t>(page * page_size + position % page_size));
  }
  out.page_list.insert(out.page_list.end(), table.pages.begin(), table.pages.end());
  out.page_starts.push_back(static_cast<int32_t>(out.page_list.size()));
  out.context_starts.push_back(static_cast<int32_t>(table.first_page * page_size));
}

// Preempts the newest running sequence if it is newer than `sequence` and has no tokens in this step yet.
bool Scheduler::preempt_after(const Sequence& sequence) {
  Sequence& newest = *running_.back();
  if (&newest == &sequence || newest.planned) return false;
  release(newest);
  ++preemptions_;
  waiting_.push_front(std::move(running_.back()));
  running_.pop_back();
  return true;
}

}  // namespace ingot
