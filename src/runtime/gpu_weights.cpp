#include "runtime/gpu_weights.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
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

constexpr int kMostReaders = 16;
// Of each reader. With two, readers wait for copies; smaller pieces cost more in calls of the driver than they save.
constexpr uint64_t kPieceBytes = uint64_t{2} << 20;
constexpr size_t kPieces = 3;
static_assert(kEngineBlockBytes % kPieceBytes == 0);

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

// The pinned memory of one reader: pieces in turn, each free again when it has been copied.
class Staging {
 public:
  Staging(const cuda::DevicePtr& device, std::byte* memory)
      : memory_(memory), stream_(device), copied_{cuda::Event(device), cuda::Event(device), cuda::Event(device)} {}
  ~Staging() {
    try {
      stream_.synchronize();  // nobody may read the memory any more when it goes
    } catch (const Error&) {  // follows the error that ends the upload
    }
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Waits for a free piece.
  std::byte* next() {
    current_ = (current_ + 1) % kPieces;
    copied_[current_].synchronize();
    return memory_ + current_ * kPieceBytes;
  }
  // Copies the piece that `next` gave last, without waiting.
  void upload(std::byte* target, uint64_t bytes) {
    stream_.upload(target, memory_ + current_ * kPieceBytes, bytes);
    copied_[current_].record(stream_);
  }
  void finish() { stream_.synchronize(); }

 private:
  std::byte* memory_;
  size_t current_ = 0;
  cuda::Stream stream_;
  std::array<cuda::Event, kPieces> copied_;
};

}  // namespace

class WeightUpload::Readers {
 public:
  Readers(const cuda::DevicePtr& device, const EngineFile& file, const Path& path, std::byte* target, bool verify)
      : device_(device),
        file_(file),
        path_(path),
        descriptor_(path),
        verify_(verify),
        blocks_(static_cast<int64_t>(file.weight_checksums().size())),
        readers_(static_cast<int>(std::clamp<int64_t>(blocks_, 1, std::min(kMostReaders, usable_cpus())))),
        target_(target) {}

  void run() {
    guarded([&] { pinned_ = cuda::PinnedMemory(device_, static_cast<uint64_t>(readers_) * kPieces * kPieceBytes); });
    if (!failure_) ThreadPool(readers_).run([&](int reader) { guarded([&] { read_blocks(reader); }); });
    if (failure_) std::rethrow_exception(failure_);
  }
  void stop() { next_ = kNoMoreBlocks; }

 private:
  static constexpr int64_t kNoMoreBlocks = INT64_MAX / 2;  // readers still count on

  template <class F>
  void guarded(F&& work) {
    Scope scope(path_.string());
    try {
      work();
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
      stop();
    }
  }

  // Takes one block after the other until none is left.
  void read_blocks(int reader) {
    Staging staging(device_, pinned_.data() + static_cast<uint64_t>(reader) * kPieces * kPieceBytes);
    for (int64_t block = next_++; block < blocks_; block = next_++) read_block(block, staging);
    staging.finish();
  }

  // While one piece is copied to the GPU, the next is read and hashed.
  void read_block(int64_t block, Staging& staging) {
    const uint64_t begin = static_cast<uint64_t>(block) * kEngineBlockBytes;
    const uint64_t end = std::min<uint64_t>(begin + kEngineBlockBytes, file_.weights().size());
    Hasher hasher;
    for (uint64_t offset = begin; offset < end; offset += kPieceBytes) {
      const uint64_t bytes = std::min(kPieceBytes, end - offset);
      std::byte* piece = staging.next();
      descriptor_.read(piece, bytes, file_.weights_offset() + offset);
      staging.upload(target_ + offset, bytes);
      if (verify_) hasher.add({piece, bytes});
    }
    if (verify_ && hex64(hasher.digest()) != file_.weight_checksums()[static_cast<size_t>(block)])
      fail(ErrorCode::kIncompatible, "section weights: damaged: the checksum of block {} of {} does not match", block,
           blocks_);
  }

  const cuda::DevicePtr& device_;
  const EngineFile& file_;
  const Path& path_;
  FileDescriptor descriptor_;
  bool verify_;
  int64_t blocks_;
  int readers_;
  std::byte* target_;
  cuda::PinnedMemory pinned_;
  std::atomic<int64_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr failure_;
};

WeightUpload::WeightUpload(const cuda::DevicePtr& device, const EngineFile& file, const Path& path, std::byte* target,
                           bool verify)
    : readers_(std::make_unique<Readers>(device, file, path, target, verify)),
      done_(std::async(std::launch::async, [readers = readers_.get()] { readers->run(); })) {}

WeightUpload::~WeightUpload() {
  readers_->stop();
  if (done_.valid()) done_.wait();
}

void WeightUpload::finish() { done_.get(); }

}  // namespace ingot
