#include "inspect/ceilings_cuda.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "device/target.h"
#include "kernels/cuda/cublaslt_api.h"
#include "tactics/cuda/device_code.h"

namespace ingot {

namespace {

// Whole tiles of every read kernel; several times any second-level cache.
constexpr int64_t kReadUnit = int64_t{64} << 20;
constexpr int64_t kLeastReadBytes = int64_t{512} << 20;
constexpr int64_t kUploadBytes = int64_t{256} << 20;
constexpr int64_t kMatrixSize = 8192;
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;
constexpr int kAlgorithms = 8;
constexpr int kPasses = 3;

// One shape of the read kernels (tactics/cuda/ceilings.cuh).
struct ReadShape {
  const char* function;
  int packs_per_thread;
  unsigned threads;
  unsigned blocks_per_multiprocessor;  // 0: a block per tile
};
constexpr ReadShape kReadShapes[] = {{"read_8", 8, 256, 0},  {"read_8", 8, 512, 0}, {"read_8", 8, 1024, 0},
                                     {"read_8", 8, 1024, 1}, {"read_8", 8, 256, 8}, {"read_4", 4, 256, 0},
                                     {"read_4", 4, 1024, 0}, {"read_4", 4, 512, 4}};

std::string name_of(const ReadShape& shape) {
  return format("{} x 16 bytes, {} threads, {}", shape.packs_per_thread, shape.threads,
                shape.blocks_per_multiprocessor ? format("{} blocks per SM", shape.blocks_per_multiprocessor)
                                                : std::string("a block per tile"));
}

}  // namespace

class CudaCeilingMeter::Loops {
 public:
  Loops(cuda::DevicePtr device, int64_t read_bytes)
      : device_(std::move(device)), stream_(device_), begin_(device_, true), end_(device_, true) {
    const int64_t free = static_cast<int64_t>(device_->free_bytes());
    read_bytes = std::min(read_bytes, free / 2) / kReadUnit * kReadUnit;
    if (read_bytes < kLeastReadBytes)
      fail(ErrorCode::kDoesNotFit, "measuring the GPU's ceilings needs {} of its memory, {} are free",
           print_bytes(static_cast<double>(2 * kLeastReadBytes)), print_bytes(static_cast<double>(free)));
    reads_ = cuda::Memory(device_, static_cast<uint64_t>(read_bytes), "memory to measure reads with");
    if (compiler_version().empty()) return;
    const Target target = parse_target("cuda", 1);
    const DeviceModule module{"ceilings.cuh", {}, target.cuda_arch};
    module_ = device_->module(module.name(), *compile_module(module));
    fill(reads_.data(), read_bytes, 1);
  }

  cuda::Device& device() const { return *device_; }
  void wait_until_idle() {
    device_->make_current();
    device_->check(device_->driver().cuCtxSynchronize(), "waiting for the GPU");
  }
  bool has_kernels() const { return module_ != nullptr; }
  int64_t read_bytes() const { return static_cast<int64_t>(reads_.size()); }

  double read_rate(const ReadShape& shape) {
    int64_t packs = read_bytes() / 16;
    void *data = reads_.data(), *sink = reads_.data();
    void* arguments[] = {&data, &packs, &sink};
    const int64_t tile = int64_t{shape.threads} * shape.packs_per_thread;
    const int64_t blocks = shape.blocks_per_multiprocessor
                               ? int64_t{shape.blocks_per_multiprocessor} * device_->facts().multiprocessors
                               : packs / tile;
    const double seconds = timed([&] { launch(shape.function, blocks, shape.threads, arguments); });
    return static_cast<double>(read_bytes()) / seconds;
  }

  // Bytes read plus bytes written.
  double copy_rate() {
    const uint64_t half = reads_.size() / 2;
    return 2 * static_cast<double>(half) / timed([&] { stream_.copy(reads_.data() + half, reads_.data(), half); });
  }

  double upload_rate() {
    if (pinned_.size() == 0) {
      pinned_ = cuda::PinnedMemory(device_, kUploadBytes);
      std::fill_n(pinned_.data(), kUploadBytes, std::byte{0x3c});
    }
    return static_cast<double>(kUploadBytes) /
           timed([&] { stream_.upload(reads_.data(), pinned_.data(), kUploadBytes); });
  }

  // Finds the algorithms of the library; their number, 0 without one.
  int prepare_matmul() {
    if (!cublaslt::Library::get().ok() || !has_kernels()) return 0;
    constexpr int64_t kMatrixBytes = kMatrixSize * kMatrixSize * 2;
    matrices_ = cuda::Memory(device_, 3 * kMatrixBytes + kWorkspaceBytes, "matrices to measure products with");
    fill(matrices_.data(), 2 * kMatrixBytes, 2);
    const cublaslt::Connection& connection = cublaslt::Connection::open(device_);
    product_.emplace(connection, cublaslt::Product{{}, kMatrixSize, kMatrixSize, kMatrixSize}, nullptr);
    algorithms_ = product_->heuristics(kWorkspaceBytes, kAlgorithms);
    return static_cast<int>(algorithms_.size());
  }

  double matmul_rate(size_t algorithm) {
    constexpr int64_t kMatrixBytes = kMatrixSize * kMatrixSize * 2;
    std::byte* data = matrices_.data();
    const cublaslt::Descriptors::Buffers buffers{data, data + kMatrixBytes, nullptr, data + 2 * kMatrixBytes,
                                                 data + 3 * kMatrixBytes};
    const double size = kMatrixSize;
    return 2 * size * size * size /
           timed([&] { product_->run(algorithms_[algorithm].algorithm, buffers, kWorkspaceBytes, stream_.get()); });
  }

 private:
  void launch(const char* function, int64_t blocks, unsigned threads, void** arguments) {
    stream_.launch({.function = device_->function(module_, function, 0),
                    .grid = {static_cast<unsigned>(blocks), 1, 1},
                    .block = {threads, 1, 1},
                    .arguments = arguments});
  }

  void fill(std::byte* data, int64_t bytes, uint64_t seed) {
    void* target = data;
    int64_t pairs = bytes / 4;
    seed <<= 40;
    void* arguments[] = {&target, &pairs, &seed};
    launch("fill_normal", int64_t{8} * device_->facts().multiprocessors, 256, arguments);
    stream_.synchronize();
  }

  template <class F>
  double timed(F&& work) {
    device_->make_current();
    begin_.record(stream_);
    work();
    end_.record(stream_);
    end_.synchronize();
    return end_.microseconds_since(begin_) * 1e-6;
  }

  cuda::DevicePtr device_;
  cuda::Stream stream_;
  cuda::Event begin_, end_;
  cuda::Memory reads_, matrices_;
  cuda::PinnedMemory pinned_;
  cuda::CUmodule module_ = nullptr;
  std::optional<cublaslt::Descriptors> product_;
  std::vector<cublaslt::HeuristicResult> algorithms_;
};

CudaCeilingMeter::CudaCeilingMeter(cuda::DevicePtr device, int64_t read_bytes, int rounds)
    : loops_(std::make_unique<Loops>(std::move(device), read_bytes)) {
  ceilings_.device = loops_->device().facts().name;
  ceilings_.reads.resize(loops_->has_kernels() ? std::size(kReadShapes) : 0);
  ceilings_.matmuls.resize(static_cast<size_t>(loops_->prepare_matmul()));
  for (size_t i = 0; i < ceilings_.reads.size(); ++i) ceilings_.reads[i].name = name_of(kReadShapes[i]);
  for (size_t i = 0; i < ceilings_.matmuls.size(); ++i)
    ceilings_.matmuls[i].name = format("cuBLASLt bf16 {}^3, algorithm {}", kMatrixSize, i);
  for (int round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < ceilings_.reads.size(); ++i)
      ceilings_.reads[i].per_second = std::max(ceilings_.reads[i].per_second, loops_->read_rate(kReadShapes[i]));
    for (size_t i = 0; i < ceilings_.matmuls.size(); ++i)
      ceilings_.matmuls[i].per_second = std::max(ceilings_.matmuls[i].per_second, loops_->matmul_rate(i));
    ceilings_.copy_bytes_per_second = std::max(ceilings_.copy_bytes_per_second, loops_->copy_rate());
  }
  keep_best();
}

CudaCeilingMeter::~CudaCeilingMeter() = default;

void CudaCeilingMeter::keep_best() {
  const auto best = [](const std::vector<CeilingLoop>& loops) {
    return static_cast<size_t>(
        std::max_element(loops.begin(), loops.end(),
                         [](const auto& a, const auto& b) { return a.per_second < b.per_second; }) -
        loops.begin());
  };
  best_read_ = best(ceilings_.reads), best_matmul_ = best(ceilings_.matmuls);
  if (ceilings_.reads.empty()) {
    ceilings_.read_name = "copy on the device (there is no NVRTC to compile a kernel that only reads)";
    ceilings_.read_bytes_per_second = ceilings_.copy_bytes_per_second;
  } else {
    ceilings_.read_name = format("read {}", ceilings_.reads[best_read_].name);
    ceilings_.read_bytes_per_second = ceilings_.reads[best_read_].per_second;
  }
  if (ceilings_.matmuls.empty()) {
    ceilings_.matmul_name = "none: needs libcublasLt.so.13 and NVRTC";
  } else {
    ceilings_.matmul_name = ceilings_.matmuls[best_matmul_].name;
    ceilings_.matmul_flops = ceilings_.matmuls[best_matmul_].per_second;
  }
}

template <class F>
double CudaCeilingMeter::best_of(F&& once) {
  loops_->wait_until_idle();
  double best = 0;
  for (int i = 0; i < kPasses; ++i) best = std::max(best, once());
  return best;
}

double CudaCeilingMeter::measure_read() {
  if (ceilings_.reads.empty()) return measure_copy();
  return best_of([&] { return loops_->read_rate(kReadShapes[best_read_]); });
}
double CudaCeilingMeter::measure_matmul() {
  if (ceilings_.matmuls.empty()) return 0;
  return best_of([&] { return loops_->matmul_rate(best_matmul_); });
}
double CudaCeilingMeter::measure_copy() {
  return best_of([&] { return loops_->copy_rate(); });
}
double CudaCeilingMeter::measure_upload() {
  return best_of([&] { return loops_->upload_rate(); });
}

}  // namespace ingot
