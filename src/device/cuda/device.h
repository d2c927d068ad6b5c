// One NVIDIA GPU through the driver API, which is opened at run time: streams, events, memory, graphs, loaded code.
//
// Every object belongs to a Device and keeps it alive. Errors of the driver become an Error that names the call, the
// driver's own words and, inside a Scope, the step. After an illegal access or a failed assertion on the device the
// driver refuses all further work of this process; that is an Error with ErrorCode::kRuntime which says so.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "device/cuda/driver_api.h"

namespace ingot::cuda {

struct DeviceFacts {
  std::string name;  // "NVIDIA H200"
  int compute_major = 0, compute_minor = 0;
  int multiprocessors = 0;
  int64_t l2_bytes = 0;
  int64_t shared_bytes_per_block = 0;  // the most that a kernel may opt in to
  uint64_t memory_bytes = 0;
  int driver_version = 0;  // 13000: what the driver supports
};

class Device : public std::enable_shared_from_this<Device> {
 public:
  // The GPU `ordinal`, opened once and then shared until the process ends. Throws an Error with
  // ErrorCode::kIncompatible that says what is missing: the driver's library, a GPU, a new enough driver.
  static std::shared_ptr<Device> open(int ordinal = 0);
  // Why open() would fail, or "". Opens nothing that stays.
  static std::string missing(int ordinal = 0);
  // The facts of every GPU, found without opening any; empty when there is none.
  static std::vector<DeviceFacts> list();
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const DeviceFacts& facts() const { return facts_; }
  const Driver& driver() const { return *driver_; }
  // Makes this device's context current on the calling thread; cheap when it is already. Every method below does so.
  void make_current() const;
  bool try_make_current() const noexcept;  // the same for destructors
  uint64_t free_bytes() const;

  // The code called `name`, loaded from `image` (a cubin) on first use and kept as long as the device. Safe to call
  // from several threads. An image for another architecture is an Error with ErrorCode::kIncompatible.
  CUmodule module(std::string_view name, std::span<const std::byte> image);
  // A kernel of a module, allowed `shared_bytes` of dynamic shared memory and, on Hopper, clusters of up to 16 blocks.
  CUfunction function(CUmodule module, const std::string& name, int64_t shared_bytes);

  // Throws an Error that names `what` and says the driver's words unless `result` is success.
  void check(CUresult result, std::string_view what) const;
  // Whether an earlier check() found that the driver refuses all further work of this process. From then on every call
  // fails with the same words, whatever it is for.
  bool lost() const { return lost_; }

 private:
  struct State;
  explicit Device(int ordinal);
  const Driver* driver_;
  mutable std::atomic<bool> lost_ = false;
  DeviceFacts facts_;
  std::unique_ptr<State> state_;
};
using DevicePtr = std::shared_ptr<Device>;

// Device memory, not initialized, at a multiple of 256 bytes.
class Memory {
 public:
  Memory() = default;
  // Throws an Error with ErrorCode::kDoesNotFit that says `what`, how much it needs and how much is free.
  Memory(DevicePtr device, uint64_t bytes, std::string_view what);
  ~Memory();
  Memory(Memory&& other) noexcept { swap(other); }
  Memory& operator=(Memory&& other) noexcept {
    swap(other);
    return *this;
  }

  std::byte* data() const { return data_; }  // an address on the device
  uint64_t size() const { return size_; }

 private:
  void swap(Memory& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  DevicePtr device_;
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

// Host memory that the copy engines reach without a detour.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  PinnedMemory(DevicePtr device, uint64_t bytes);
  ~PinnedMemory();
  PinnedMemory(PinnedMemory&& other) noexcept { swap(other); }
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
    swap(other);
    return *this;
  }

  std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }

 private:
  void swap(PinnedMemory& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  DevicePtr device_;
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

class Event;
class Graph;

// How one kernel is started.
struct KernelLaunch {
  CUfunction function = nullptr;
  std::array<unsigned, 3> grid{1, 1, 1}, block{1, 1, 1};
  unsigned cluster = 1;       // blocks in x
  unsigned shared_bytes = 0;  // dynamic
  bool dependent = false;     // programmatic dependent launch: may begin before the kernel in front of it has ended
  bool cooperative = false;   // all blocks run at once
  void** arguments = nullptr;
};

// Work in order. Copies from or to pageable host memory wait; from or to pinned memory they do not.
class Stream {
 public:
  explicit Stream(DevicePtr device);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  CUstream get() const { return stream_; }
  Device& device() const { return *device_; }
  const DevicePtr& device_ptr() const { return device_; }

  void launch(const KernelLaunch& launch);
  void upload(void* device_target, const void* host_source, uint64_t bytes);
  void download(void* host_target, const void* device_source, uint64_t bytes);
  void copy(void* device_target, const void* device_source, uint64_t bytes);
  void fill(void* device_target, unsigned char value, uint64_t bytes);
  void wait_for(const Event& event);
  // Blocks until all work is done; errors of the work come out here.
  void synchronize();

  // What is enqueued between the two calls becomes a graph and does not run.
  void begin_capture();
  Graph end_capture();
  // Ends a capture that failed, so that the stream can go on.
  void abandon_capture() noexcept;

 private:
  DevicePtr device_;
  CUstream stream_ = nullptr;
};

class Event {
 public:
  explicit Event(DevicePtr device, bool timing = false);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  CUevent get() const { return event_; }
  void record(const Stream& stream);
  bool done() const;
  void synchronize() const;
  // Microseconds from `earlier` to this one, both recorded with timing and reached.
  double microseconds_since(const Event& earlier) const;

 private:
  DevicePtr device_;
  CUevent event_ = nullptr;
};

// A recorded piece of work that one call starts again.
class Graph {
 public:
  Graph() = default;
  Graph(DevicePtr device, CUgraph graph);  // takes the graph over
  ~Graph();
  Graph(Graph&& other) noexcept { swap(other); }
  Graph& operator=(Graph&& other) noexcept {
    swap(other);
    return *this;
  }
  explicit operator bool() const { return executable_ != nullptr; }
  void launch(const Stream& stream) const;

 private:
  void swap(Graph& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(executable_, other.executable_);
  }
  DevicePtr device_;
  CUgraphExec executable_ = nullptr;
};

}  // namespace ingot::cuda
