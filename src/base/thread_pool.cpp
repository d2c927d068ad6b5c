#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <system_error>

#include "base/error.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ingot {

namespace {
void pause_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}
// About 50 us of spinning before a worker sleeps: longer than the serial gaps inside a step.
constexpr int kSpins = 2000;
}  // namespace

int usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

ThreadPool::ThreadPool(int threads) {
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (const std::system_error& error) {  // no thread may be left running when its std::thread goes
    const size_t started = workers_.size() + 1;
    join();
    fail(ErrorCode::kRuntime, "cannot start thread {} of {}: {}; fewer threads are needed", started + 1, threads,
         error.code().message());
  }
}

ThreadPool::~ThreadPool() { join(); }

void ThreadPool::join() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    generation_.fetch_add(1);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_raw(RawFunction function, void* state) {
  if (workers_.empty()) return function(state, 0);
  function_ = function;
  state_ = state;
  running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1);  // sequentially consistent against sleeping_: no wake-up is lost
  if (sleeping_.load() > 0) {
    std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  function(state, 0);
  for (int spins = 0; running_.load(std::memory_order_acquire) > 0; ++spins) {
    pause_cpu();
    if (spins > kSpins) std::this_thread::yield();
  }
}

void ThreadPool::work(int index) {
  uint64_t seen = 0;
  for (;;) {
    int spins = 0;
    while (generation_.load(std::memory_order_acquire) == seen) {
      pause_cpu();
      if (++spins < kSpins) continue;
      std::unique_lock lock(mutex_);
      sleeping_.fetch_add(1);
      wake_.wait(lock, [&] { return generation_.load() != seen; });
      sleeping_.fetch_sub(1);
    }
    ++seen;
    if (stopping_) return;
    function_(state_, index);
    running_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace ingot
