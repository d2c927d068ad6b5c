#include "base/error.h"
#include "device/cuda/device.h"

namespace ingot::cuda {

namespace {
CUdeviceptr address(const void* p) { return reinterpret_cast<CUdeviceptr>(p); }
}  // namespace

Stream::Stream(DevicePtr device) : device_(std::move(device)) {
  device_->make_current();
  device_->check(device_->driver().cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
}

Stream::~Stream() {
  device_->try_make_current();
  device_->driver().cuStreamDestroy_v2(stream_);
}

void Stream::launch(const KernelLaunch& launch) {
  device_->make_current();
  CUlaunchAttribute attributes[3] = {};
  unsigned count = 0;
  // Before Hopper there is no dependent launch; kernels for older GPUs do without.
  if (launch.dependent && device_->facts().compute_major >= 9) {
    attributes[count].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attributes[count++].value.programmaticStreamSerializationAllowed = 1;
  }
  if (launch.cluster > 1) {
    attributes[count].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attributes[count++].value.clusterDim = {launch.cluster, 1, 1};
  }
  if (launch.cooperative) {
    attributes[count].id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    attributes[count++].value.cooperative = 1;
  }
  const CUlaunchConfig config{launch.grid[0],  launch.grid[1],      launch.grid[2], launch.block[0], launch.block[1],
                              launch.block[2], launch.shared_bytes, stream_,        attributes,      count};
  const CUresult result = device_->driver().cuLaunchKernelEx(&config, launch.function, launch.arguments, nullptr);
  if (result != CUDA_SUCCESS)
    device_->check(result,
                   format("launching {}x{}x{} blocks of {}x{}x{} threads, {} bytes of shared memory, clusters of {}",
                          launch.grid[0], launch.grid[1], launch.grid[2], launch.block[0], launch.block[1],
                          launch.block[2], launch.shared_bytes, launch.cluster));
}

void Stream::upload(void* device_target, const void* host_source, uint64_t bytes) {
  if (bytes == 0) return;
  device_->make_current();
  device_->check(device_->driver().cuMemcpyHtoDAsync_v2(address(device_target), host_source, bytes, stream_),
                 "copying to the GPU");
}

void Stream::download(void* host_target, const void* device_source, uint64_t bytes) {
  if (bytes == 0) return;
  device_->make_current();
  device_->check(device_->driver().cuMemcpyDtoHAsync_v2(host_target, address(device_source), bytes, stream_),
                 "copying from the GPU");
}

void Stream::copy(void* device_target, const void* device_source, uint64_t bytes) {
  if (bytes == 0) return;
  device_->make_current();
  device_->check(device_->driver().cuMemcpyDtoDAsync_v2(address(device_target), address(device_source), bytes, stream_),
                 "copying on the GPU");
}

void Stream::fill(void* device_target, unsigned char value, uint64_t bytes) {
  if (bytes == 0) return;
  device_->make_current();
  device_->check(device_->driver().cuMemsetD8Async(address(device_target), value, bytes, stream_),
                 "filling GPU memory");
}

void Stream::wait_for(const Event& event) {
  device_->make_current();
  device_->check(device_->driver().cuStreamWaitEvent(stream_, event.get(), 0), "cuStreamWaitEvent");
}

void Stream::synchronize() {
  device_->make_current();
  device_->check(device_->driver().cuStreamSynchronize(stream_), "work on the GPU failed");
}

void Stream::begin_capture() {
  device_->make_current();
  // Relaxed: loading code or allocating memory meanwhile, here or on other threads, does no harm to the graph.
  device_->check(device_->driver().cuStreamBeginCapture_v2(stream_, CU_STREAM_CAPTURE_MODE_RELAXED),
                 "cuStreamBeginCapture");
}

Graph Stream::end_capture() {
  device_->make_current();
  CUgraph graph = nullptr;
  device_->check(device_->driver().cuStreamEndCapture(stream_, &graph), "cuStreamEndCapture");
  return Graph(device_, graph);
}

void Stream::abandon_capture() noexcept {
  device_->try_make_current();
  CUgraph graph = nullptr;
  device_->driver().cuStreamEndCapture(stream_, &graph);
  if (graph) device_->driver().cuGraphDestroy(graph);
}

Event::Event(DevicePtr device, bool timing) : device_(std::move(device)) {
  device_->make_current();
  device_->check(device_->driver().cuEventCreate(&event_, timing ? CU_EVENT_DEFAULT : CU_EVENT_DISABLE_TIMING),
                 "cuEventCreate");
}

Event::~Event() {
  device_->try_make_current();
  device_->driver().cuEventDestroy_v2(event_);
}

void Event::record(const Stream& stream) {
  device_->make_current();
  device_->check(device_->driver().cuEventRecord(event_, stream.get()), "cuEventRecord");
}

bool Event::done() const {
  device_->make_current();
  const CUresult result = device_->driver().cuEventQuery(event_);
  if (result == CUDA_ERROR_NOT_READY) return false;
  device_->check(result, "work on the GPU failed");
  return true;
}

void Event::synchronize() const {
  device_->make_current();
  device_->check(device_->driver().cuEventSynchronize(event_), "work on the GPU failed");
}

double Event::microseconds_since(const Event& earlier) const {
  device_->make_current();
  float milliseconds = 0;
  device_->check(device_->driver().cuEventElapsedTime(&milliseconds, earlier.event_, event_), "cuEventElapsedTime");
  return 1000.0 * milliseconds;
}

}  // namespace ingot::cuda
