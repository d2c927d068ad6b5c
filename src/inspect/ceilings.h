// What this machine can reach at best: the bandwidth of reading memory and the rate of multiplying matrices in
// registers, each the best of several loops. Figures of a workload are given as shares of these.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "device/target.h"

namespace ingot {

struct CeilingLoop {
  std::string name;   // "avx512 4 streams, prefetch 1024", "f32 fma avx512"
  double per_second;  // the best seen: bytes, or multiplications and additions
};

struct CpuCeilings {
  int threads = 1;
  double read_bytes_per_second = 0;
  std::string read_name;
  double matmul_flops = 0;  // the best of the instruction sets that the machine has
  std::string matmul_name;
  double f32_flops = 0;  // the best f32 FMA alone
  std::string f32_name;
  std::vector<CeilingLoop> reads, matmuls;  // everything measured
};

// Huge pages (where the system grants them), touched by the threads that will read them.
class ReadBuffer {
 public:
  ReadBuffer(ThreadPool& threads, int64_t bytes);
  ~ReadBuffer();
  ReadBuffer(const ReadBuffer&) = delete;
  ReadBuffer& operator=(const ReadBuffer&) = delete;

  const std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  int64_t bytes_;
  std::byte* data_ = nullptr;
};

// Bytes per second of one good loop, in about a tenth of a second: a rough figure.
double quick_read_rate(ThreadPool& threads, CpuLevel level);

// Measures again and again, so that it can alternate with a workload: on a shared machine only neighbours in time are
// comparable.
class CeilingMeter {
 public:
  CeilingMeter() = default;
  virtual ~CeilingMeter() = default;
  CeilingMeter(const CeilingMeter&) = delete;
  CeilingMeter& operator=(const CeilingMeter&) = delete;

  // One pass of the best loop: bytes, or multiplications and additions, per second. 0 when it cannot be measured.
  virtual double measure_read() = 0;
  virtual double measure_matmul() = 0;
  virtual std::string read_name() const = 0;
  virtual std::string matmul_name() const = 0;
};

// Holds a buffer of `read_bytes` while it lives.
class CpuCeilingMeter final : public CeilingMeter {
 public:
  // Tries every loop that `level` allows, `rounds` times, and keeps the best ones for measure_*().
  CpuCeilingMeter(ThreadPool& threads, CpuLevel level, int64_t read_bytes = int64_t{1} << 30, int rounds = 3);
  ~CpuCeilingMeter() override;

  const CpuCeilings& ceilings() const { return ceilings_; }
  // About 40 ms and 20 ms on two threads.
  double measure_read() override;
  double measure_matmul() override;
  std::string read_name() const override { return ceilings_.read_name; }
  std::string matmul_name() const override { return ceilings_.matmul_name; }

 private:
  struct Loops;
  double time_read(size_t index);
  double time_matmul(size_t index);

  ThreadPool& threads_;
  ReadBuffer buffer_;
  std::unique_ptr<Loops> loops_;
  size_t best_read_ = 0, best_matmul_ = 0;
  CpuCeilings ceilings_;
};

}  // namespace ingot
