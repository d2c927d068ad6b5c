#include "runtime/gpu_weights.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <mutex>

#include "base/error.h"
#include "base/hash.h"
#include "base/thread_pool.h"
#include "plan/engine_format.h"

namespace ingot {

namespace {

constexpr int kMostReaders = 12;

class FileDescriptor {
 public:
  explicit FileDescriptor(const Path& path) : value_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (value_ < 0) fail(ErrorCode::kRuntime, "cannot open {}: {}", path.string(), std::strerror(errno));
  }
  ~FileDescriptor() { ::close(value_); }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;

  void read(std::byte* target, uint64_t bytes, uint64_t offset) const {
    while (bytes > 0) {
      ssize_t got = ::pread(value_, target, bytes, static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0)
        fail(ErrorCode::kRuntime, "cannot read {} bytes at {}: {}", bytes, offset,
             got < 0 ? std::strerror(errno) : "the file ends there");
      target += got, offset += static_cast<uint64_t>(got), bytes -= static_cast<uint64_t>(got);
    }
  }

 private:
  int value_;
};

class Upload {
 public:
  Upload(const cuda::DevicePtr& device, const EngineFile& file, const Path& path, bool verify)
      : device_(device),
        file_(file),
        descriptor_(path),
        verify_(verify),
        memory_(device, file.weights().size(), "the weights") {}

  cuda::Memory run() {
    auto blocks = static_cast<int64_t>(file_.weight_checksums().size());
    int readers = static_cast<int>(std::clamp<int64_t>(blocks, 1, std::min(kMostReaders, usable_cpus())));
    ThreadPool pool(readers);
    pool.parallel_for(readers, 1, [&](int64_t begin, int64_t end) {
      for (int64_t reader = begin; reader < end; ++reader) guarded([&] { read_blocks(blocks); });
    });
    if (failure_) std::rethrow_exception(failure_);
    return std::move(memory_);
  }

 private:
  template <class F>
  void guarded(F&& work) {
    try {
      work();
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
      next_ = INT64_MAX / 2;
    }
  }

  // Takes one block after the other until none is left.
  void read_blocks(int64_t blocks) {
    cuda::Stream stream(device_);
    cuda::PinnedMemory staging(device_, std::min<uint64_t>(kEngineBlockBytes, file_.weights().size()));
    for (int64_t block = next_++; block < blocks; block = next_++) {
      uint64_t offset = static_cast<uint64_t>(block) * kEngineBlockBytes;
      uint64_t bytes = std::min<uint64_t>(kEngineBlockBytes, file_.weights().size() - offset);
      descriptor_.read(staging.data(), bytes, file_.weights_offset() + offset);
      stream.upload(memory_.data() + offset, staging.data(), bytes);
      bool damaged = verify_ && hex64(hash64(std::span<const std::byte>(staging.data(), bytes))) !=
                                    file_.weight_checksums()[static_cast<size_t>(block)];
      stream.synchronize();
      if (damaged)
        fail(ErrorCode::kIncompatible, "section weights: damaged: the checksum of block {} of {} does not match", block,
             blocks);
    }
  }

  cuda::DevicePtr device_;
  const EngineFile& file_;
  FileDescriptor descriptor_;
  bool verify_;
  cuda::Memory memory_;
  std::atomic<int64_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr failure_;
};

}  // namespace

cuda::Memory upload_weights(const cuda::DevicePtr& device, const EngineFile& file, const Path& path, bool verify) {
  return Upload(device, file, path, verify).run();
}

}  // namespace ingot
