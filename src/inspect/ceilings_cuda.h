// What this machine's GPU can reach at best: reading memory, copying it, taking data from the host, multiplying
// matrices. Figures of a workload are given as shares of these.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device/cuda/device.h"
#include "inspect/ceilings.h"

namespace ingot {

struct CudaCeilings {
  std::string device;
  double read_bytes_per_second = 0;
  std::string read_name;
  double copy_bytes_per_second = 0;  // on the device; bytes read plus bytes written
  double matmul_flops = 0;           // bf16; 0 without cuBLASLt
  std::string matmul_name;
  std::vector<CeilingLoop> reads, matmuls;  // everything measured
};

// Holds device memory while it lives: `read_bytes`, or half of what is free when that is less, and 384 MiB to multiply.
// Without NVRTC the read ceiling is what a copy reads and writes.
class CudaCeilingMeter final : public CeilingMeter {
 public:
  // Throws an Error with kDoesNotFit when the memory is not there.
  explicit CudaCeilingMeter(cuda::DevicePtr device, int64_t read_bytes = int64_t{8} << 30, int rounds = 3);
  ~CudaCeilingMeter() override;

  const CudaCeilings& ceilings() const { return ceilings_; }
  // The best of three passes, after the device has become idle: 5 to 15 ms on a large GPU.
  double measure_read() override;
  double measure_matmul() override;
  std::string read_name() const override { return ceilings_.read_name; }
  std::string matmul_name() const override { return ceilings_.matmul_name; }
  double measure_copy();
  double measure_upload();  // from pinned host memory

 private:
  class Loops;
  void keep_best();
  template <class F>
  double best_of(F&& once);

  std::unique_ptr<Loops> loops_;
  size_t best_read_ = 0, best_matmul_ = 0;
  CudaCeilings ceilings_;
};

}  // namespace ingot
