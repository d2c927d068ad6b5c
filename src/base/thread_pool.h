// Worker threads for short parallel regions. Workers spin for a while after a region and then sleep, so that the many
// regions of one step cost about a microsecond each and an idle process costs nothing.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace ingot {

// The most that anybody may ask for: more than any machine has use for.
constexpr int kMostThreads = 1024;

class ThreadPool {
 public:
  // `threads` counts the calling thread; at least 1. Throws an Error when the system refuses a thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Runs f(thread_index) on every thread, the caller being index 0, and waits. f must not throw and must not start
  // another region.
  template <class F>
  void run(F&& f) {
    run_raw([](void* state, int index) { (*static_cast<std::remove_reference_t<F>*>(state))(index); }, &f);
  }

  // Runs f(begin, end) over [0, count) in chunks of `grain` that threads take as they become free.
  template <class F>
  void parallel_for(int64_t count, int64_t grain, F&& f) {
    if (count <= 0) return;
    if (size() == 1 || count <= grain) return f(int64_t{0}, count);
    std::atomic<int64_t> next{0};
    run([&](int) {
      for (int64_t begin; (begin = next.fetch_add(grain, std::memory_order_relaxed)) < count;)
        f(begin, begin + grain < count ? begin + grain : count);
    });
  }

 private:
  using RawFunction = void (*)(void*, int);
  void run_raw(RawFunction function, void* state);
  void work(int index);
  void join();

  RawFunction function_ = nullptr;
  void* state_ = nullptr;
  alignas(64) std::atomic<uint64_t> generation_{0};
  alignas(64) std::atomic<int> running_{0};
  std::atomic<int> sleeping_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
};

// The number of CPUs this process may run on (affinity mask).
int usable_cpus();

}  // namespace ingot
