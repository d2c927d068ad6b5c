#include "tune/lost_time.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/error.h"

namespace ingot {

namespace {

// The file holds nanoseconds on a CPU, nanoseconds waiting for one, and turns. 0 when it cannot be read.
double waited_microseconds(int file) {
  char text[96];
  ssize_t size = file < 0 ? 0 : pread(file, text, sizeof text - 1, 0);
  if (size <= 0) return 0;
  text[size] = '\0';
  unsigned long long ran = 0, waited = 0;
  return std::sscanf(text, "%llu %llu", &ran, &waited) == 2 ? static_cast<double>(waited) / 1e3 : 0;
}

double computed_microseconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

// Less is not worth reading clocks for, and may be the waking of a thread, which belongs to the work.
constexpr double kLeastLoss = 20;

}  // namespace

LostTime::LostTime(ThreadPool& pool) : threads_(static_cast<size_t>(pool.size())) {
  pool.run([&](int index) {
    Thread& thread = threads_[static_cast<size_t>(index)];
    thread.delays = open(format("/proc/self/task/{}/schedstat", gettid()).c_str(), O_RDONLY | O_CLOEXEC);
    pthread_getcpuclockid(pthread_self(), &thread.clock);
  });
}

LostTime::~LostTime() {
  for (const Thread& thread : threads_)
    if (thread.delays >= 0) close(thread.delays);
}

void LostTime::start() {
  for (Thread& thread : threads_) {
    thread.waited = waited_microseconds(thread.delays);
    thread.computed = computed_microseconds(thread.clock);
  }
}

double LostTime::without(double microseconds) {
  double lost = 0, computed = 0;
  for (const Thread& thread : threads_) {
    lost = std::max(lost, waited_microseconds(thread.delays) - thread.waited);
    computed += computed_microseconds(thread.clock) - thread.computed;
  }
  if (lost < kLeastLoss) return microseconds;
  double shared = computed / static_cast<double>(threads_.size());
  return std::min(microseconds, std::max(microseconds - lost, shared));
}

}  // namespace ingot
