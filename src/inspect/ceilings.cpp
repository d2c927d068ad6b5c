#include "inspect/ceilings.h"

#include <sys/mman.h>
#include <time.h>

#include <algorithm>

#include "base/error.h"
#include "inspect/ceiling_loops.h"

namespace ingot {

namespace portable {

namespace {

using Four = float __attribute__((vector_size(16)));

uint64_t read(const void* data, int64_t bytes, int64_t) {
  auto* words = static_cast<const uint64_t*>(data);
  uint64_t sum[4] = {};
  for (int64_t i = 0; i < bytes / 8; i += 4)
    for (int s = 0; s < 4; ++s) sum[s] ^= words[i + s];
  return sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
}

double multiply(int64_t rounds) {
  Four a = {0.999f, 0.999f, 0.999f, 0.999f}, c[8] = {};
  for (int64_t i = 0; i < rounds; ++i) {
    for (Four& each : c) each = each * a + a;
    for (Four& each : c) __asm__ volatile("" : "+m"(each));
  }
  return 8 * 4 * 2;
}

}  // namespace

const ReadLoop kReadLoops[1] = {{"plain", read}};
const MatmulLoop kMatmulLoop = {"f32 multiply and add", true, multiply};

}  // namespace portable

namespace {

constexpr int64_t kChunkBytes = 4 << 20;

// A single thread is timed by what it computes, which holds on a busy machine; several can only be timed by the clock.
double seconds_now(const ThreadPool& threads) {
  timespec now{};
  clock_gettime(threads.size() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Bytes per second of reading the whole buffer once.
double read_rate(ThreadPool& threads, const ReadBuffer& buffer, const ReadLoop& loop, int64_t prefetch) {
  std::atomic<uint64_t> sink{0};  // so that the reads have a use
  double begin = seconds_now(threads);
  threads.parallel_for(buffer.bytes() / kChunkBytes, 1, [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk)
      sink.fetch_xor(loop.read(buffer.data() + chunk * kChunkBytes, kChunkBytes, prefetch), std::memory_order_relaxed);
  });
  return static_cast<double>(buffer.bytes()) / (seconds_now(threads) - begin);
}

}  // namespace

double quick_read_rate(ThreadPool& threads, CpuLevel level) {
  ReadBuffer buffer(threads, int64_t{128} << 20);
  const ReadLoop& loop = level >= CpuLevel::kAvx512 ? avx512::kReadLoops[0]
                         : level >= CpuLevel::kAvx2 ? avx2::kReadLoops[0]
                                                    : portable::kReadLoops[0];
  double best = 0;
  for (int i = 0; i < 3; ++i) best = std::max(best, read_rate(threads, buffer, loop, 1024));
  return best;
}

struct CpuCeilingMeter::Loops {
  struct Read {
    std::string name;
    ReadLoop loop;
    int64_t prefetch;
  };
  struct Multiply {
    MatmulLoop loop;
    int64_t rounds = 1 << 16;  // set so that a run takes about 20 ms
  };
  std::vector<Read> reads;
  std::vector<Multiply> matmuls;

  explicit Loops(CpuLevel level) {
    auto add_reads = [&](std::span<const ReadLoop> loops) {
      for (const ReadLoop& loop : loops)
        for (int64_t prefetch : {0, 512, 1024, 2048, 4096})
          reads.push_back({format("{}, prefetch {}", loop.name, prefetch), loop, prefetch});
    };
    if (level >= CpuLevel::kAvx2) add_reads(avx2::kReadLoops);
    if (level >= CpuLevel::kAvx512) add_reads(avx512::kReadLoops);
    if (level == CpuLevel::kPortable) reads.push_back({portable::kReadLoops[0].name, portable::kReadLoops[0], 0});
    if (level == CpuLevel::kPortable) matmuls.push_back({portable::kMatmulLoop});
    if (level >= CpuLevel::kAvx2) matmuls.push_back({avx2::kMatmulLoop});
    if (level >= CpuLevel::kAvx512) matmuls.push_back({avx512::kMatmulLoop});
    if (level >= CpuLevel::kAvx512 && cpu_features().avx512_bf16) matmuls.push_back({avx512::kBf16Loop});
    if (level >= CpuLevel::kAmx) matmuls.push_back({amx::kMatmulLoop});
  }
};

ReadBuffer::ReadBuffer(ThreadPool& threads, int64_t bytes)
    : bytes_(std::max<int64_t>(1, bytes / kChunkBytes) * kChunkBytes) {
  void* memory = mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    fail(ErrorCode::kDoesNotFit, "measuring the read bandwidth needs {} of memory",
         print_bytes(static_cast<double>(bytes_)));
  madvise(memory, static_cast<size_t>(bytes_), MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(memory);
  threads.parallel_for(bytes_ / kChunkBytes, 1, [&](int64_t begin, int64_t end) {
    auto* words = reinterpret_cast<uint64_t*>(data_ + begin * kChunkBytes);
    for (int64_t i = 0; i < (end - begin) * kChunkBytes / 8; ++i)
      words[i] = static_cast<uint64_t>(begin * kChunkBytes + i) * 0x9e3779b97f4a7c15;
  });
}

ReadBuffer::~ReadBuffer() { munmap(data_, static_cast<size_t>(bytes_)); }

CpuCeilingMeter::CpuCeilingMeter(ThreadPool& threads, CpuLevel level, int64_t read_bytes, int rounds)
    : threads_(threads), buffer_(threads, read_bytes), loops_(std::make_unique<Loops>(level)) {
  ceilings_.threads = threads.size();
  for (const auto& read : loops_->reads) ceilings_.reads.push_back({read.name, 0});
  for (const auto& matmul : loops_->matmuls) ceilings_.matmuls.push_back({matmul.loop.name, 0});
  for (int round = 0; round < rounds; ++round) {  // loops take turns, so that a noisy moment hits them all
    for (size_t i = 0; i < ceilings_.reads.size(); ++i)
      ceilings_.reads[i].per_second = std::max(ceilings_.reads[i].per_second, time_read(i));
    for (size_t i = 0; i < ceilings_.matmuls.size(); ++i)
      ceilings_.matmuls[i].per_second = std::max(ceilings_.matmuls[i].per_second, time_matmul(i));
  }
  for (size_t i = 0; i < ceilings_.reads.size(); ++i)
    if (ceilings_.reads[i].per_second > ceilings_.read_bytes_per_second) {
      best_read_ = i;
      ceilings_.read_bytes_per_second = ceilings_.reads[i].per_second;
      ceilings_.read_name = ceilings_.reads[i].name;
    }
  for (size_t i = 0; i < ceilings_.matmuls.size(); ++i) {
    const CeilingLoop& loop = ceilings_.matmuls[i];
    if (loop.per_second > ceilings_.matmul_flops) {
      best_matmul_ = i;
      ceilings_.matmul_flops = loop.per_second;
      ceilings_.matmul_name = loop.name;
    }
    if (loops_->matmuls[i].loop.is_f32 && loop.per_second > ceilings_.f32_flops) {
      ceilings_.f32_flops = loop.per_second;
      ceilings_.f32_name = loop.name;
    }
  }
}

CpuCeilingMeter::~CpuCeilingMeter() = default;

double CpuCeilingMeter::time_read(size_t index) {
  const auto& chosen = loops_->reads[index];
  return read_rate(threads_, buffer_, chosen.loop, chosen.prefetch);
}

double CpuCeilingMeter::time_matmul(size_t index) {
  auto& chosen = loops_->matmuls[index];
  double operations = 0;
  double begin = seconds_now(threads_);
  threads_.run([&](int thread) {
    double each = chosen.loop.run(chosen.rounds);
    if (thread == 0) operations = each;
  });
  double seconds = seconds_now(threads_) - begin;
  double rate = operations * static_cast<double>(chosen.rounds) * threads_.size() / seconds;
  if (seconds < 0.015) {  // too short to trust: longer from now on
    chosen.rounds = static_cast<int64_t>(static_cast<double>(chosen.rounds) * 0.02 / seconds);
    return time_matmul(index);
  }
  return rate;
}

double CpuCeilingMeter::measure_read() { return time_read(best_read_); }
double CpuCeilingMeter::measure_matmul() { return time_matmul(best_matmul_); }

}  // namespace ingot
