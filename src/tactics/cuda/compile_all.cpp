#include <exception>
#include <mutex>

#include "tactics/cuda/device_code.h"

namespace ingot {

void compile_all(std::span<const DeviceModule> modules, ThreadPool& threads) {
  std::mutex mutex;
  std::exception_ptr failure;
  threads.parallel_for(static_cast<int64_t>(modules.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      try {
        compile_module(modules[static_cast<size_t>(i)]);
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
      }
    }
  });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace ingot
