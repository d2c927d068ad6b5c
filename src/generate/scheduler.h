// Decides which tokens run in which step, and which pages of the cache they use. Knows no engine and no logits.
//
// Every step mixes decodes (sequences with one token to run) with chunks of prompts, decodes first. Requests are
// admitted in the order of their arrival, once the pool has room for all they hold so far. When a decode finds the pool
// used up, the newest running request is preempted: its pages are released and it waits at the head of the queue, to be
// computed again from its prompt and answer so far. The oldest running request can always go on, so there is always
// progress.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "generate/step_batch.h"
#include "runtime/state_pool.h"
#include "tensor/cache_group.h"

namespace ingot {

struct ScheduleLimits {
  int64_t max_batch_size = 1;      // sequences in one step
  int64_t max_num_tokens = 1;      // tokens in one step
  int64_t max_outputs = 1;         // rows of logits in one step
  int64_t max_seq_len = 1;         // tokens of a prompt and its answer
  std::vector<int64_t> max_pages;  // per group, of one step's page_list; missing or 0: no bound
};

struct ScheduledRequest {
  uint64_t id = 0;
  std::vector<int32_t> tokens;  // the prompt
  int64_t max_new_tokens = 1;
  int64_t max_chunk = 0;        // tokens in one step; 0: as the step allows
  bool every_position = false;  // logits of every token, not only of the last known one
};

class Scheduler {
 public:
  // The pool has the same groups and outlives the scheduler.
  Scheduler(std::vector<CacheGroup> groups, StatePool& pool, ScheduleLimits limits);

  // Queues a request. Throws a usage Error when its tokens exceed max_seq_len or it has none, and one with kDoesNotFit
  // when the pool could not hold it alone; both say the limit.
  void add(ScheduledRequest request);
  // The longest sequence that the pool can hold, at most `most`; 0 when it holds none.
  int64_t longest_sequence(int64_t most) const;

  // Plans the next step into `batch` and counts its tokens as run. False when no request has tokens to run.
  bool next(StepBatch& batch);
  // The token that follows all known ones of a request whose tokens have all run.
  void append(uint64_t id, int32_t token);
  // The same for a token that the step planned last will choose: a later step may read it on the device, as
  // -(seat + 1), before anybody here knows it.
  void promise(uint64_t id);
  // Says which token the first promised one is that is not known yet.
  void keep_promise(uint64_t id, int32_t token);
  // A number of its own for each running request, below the most that ever ran at once.
  int32_t seat(uint64_t id) const { return by_id_.at(id)->seat; }
  // Forgets a request, running or waiting, and releases its pages. Unknown ids are ignored.
  void remove(uint64_t id);

  bool idle() const { return running_.empty() && waiting_.empty(); }
  size_t running() const { return running_.size(); }
  size_t waiting() const { return waiting_.size(); }
  int64_t preemptions() const { return preemptions_; }
  // The pages that a request holds in a group, in the order of positions; empty while it waits.
  std::span<const int32_t> pages(uint64_t id, size_t group) const;

 private:
  struct PageTable {
    int64_t first_page = 0;  // the first page held begins at position first_page * page_size
    std::vector<int32_t> pages;
  };
  struct Sequence {
    ScheduledRequest request;  // its tokens grow with the answer
    int64_t computed = 0;      // tokens whose keys and values are in the cache, or will be after the planned step
    bool planned = false;      // has tokens in the step being planned
    int32_t seat = -1;         // while it runs
    int64_t promised = 0;      // of its last tokens, how many are not known yet
    std::vector<PageTable> tables;

    int64_t length() const { return static_cast<int64_t>(request.tokens.size()); }
    int64_t left() const { return length() - computed; }
  };
  using SequencePtr = std::unique_ptr<Sequence>;

  // What the step being planned may still take.
  struct Room {
    int64_t tokens = 0, outputs = 0;
    std::vector<int64_t> pages;  // of the page lists
  };

  void schedule_running(StepBatch& batch, Room& room, bool decodes);
  void admit(StepBatch& batch, Room& room);
  bool may_admit(const Sequence& sequence) const;
  bool schedule(Sequence& sequence, StepBatch& batch, Room& room);
  int64_t wanted_tokens(const Sequence& sequence, const Room& room) const;
  int64_t largest_chunk(const Sequence& sequence, int64_t wanted, const Room& room) const;
  bool pool_has_room(const Sequence& sequence, int64_t tokens) const;
  bool chunk_fits(const Sequence& sequence, int64_t tokens, const Room& room) const;
  int64_t missing_pages(const Sequence& sequence, size_t group, int64_t tokens) const;
  int64_t pages_to_finish(const Sequence& sequence, size_t group) const;
  void drop_unseen_pages(Sequence& sequence);
  void write(Sequence& sequence, int64_t tokens, StepBatch& batch, Room& room);
  void write_group(Sequence& sequence, size_t group, int64_t tokens, StepBatch::Group& out);
  bool preempt_after(const Sequence& sequence);
  void take_seat(Sequence& sequence);
  // Pages and seat. A step that is under way may still use them: what gets them next runs behind it.
  void release(Sequence& sequence);
  bool fits_alone(int64_t length) const;

  std::vector<CacheGroup> groups_;
  StatePool& pool_;
  ScheduleLimits limits_;
  std::vector<SequencePtr> running_;  // in the order of admission
  std::deque<SequencePtr> waiting_;
  std::unordered_map<uint64_t, Sequence*> by_id_;
  std::vector<int32_t> free_seats_;
  int32_t seats_ = 0;  // given out so far
  int64_t preemptions_ = 0;
  bool stalled_ = false;  // a running sequence found no page in the step being planned
};

}  // namespace ingot
