// How long a piece of work would have taken on a machine of its own.
//
// On a busy machine threads wait for a CPU, and the threads of a pool wait for each other. Linux counts how long every
// thread that could run had to wait.
#pragma once

#include <ctime>
#include <vector>

#include "base/thread_pool.h"

namespace ingot {

class LostTime {
 public:
  // Watches the threads of `pool`, which must outlive it. Where the kernel does not count, nothing is ever lost.
  explicit LostTime(ThreadPool& pool);
  ~LostTime();
  LostTime(const LostTime&) = delete;
  LostTime& operator=(const LostTime&) = delete;

  void start();
  // `microseconds`, which passed since start() while the pool worked, less what its threads waited for a CPU; at least
  // what they computed, shared evenly.
  double without(double microseconds);

 private:
  struct Thread {
    int delays = -1;  // the file that tells how long it waited
    clockid_t clock{};
    double waited = 0, computed = 0;  // microseconds, at start()
  };
  std::vector<Thread> threads_;
};

}  // namespace ingot
