// Prints what this machine can reach: read bandwidth and matrix peaks.
// `bench_ceilings [--cuda | --threads N] [--json]`
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/json.h"
#include "inspect/ceilings_cuda.h"

using namespace ingot;

namespace {

Json loops_json(const std::vector<CeilingLoop>& list) {
  Json object = Json::object();
  for (const CeilingLoop& loop : list) object.set(loop.name, Json(loop.per_second));
  return object;
}

void print_loops(const std::vector<CeilingLoop>& reads, const std::vector<CeilingLoop>& matmuls) {
  for (const CeilingLoop& loop : reads)
    std::printf("  read %-36s %8.2f GB/s\n", loop.name.c_str(), loop.per_second / 1e9);
  for (const CeilingLoop& loop : matmuls)
    std::printf("  peak %-36s %8.1f GFLOP/s\n", loop.name.c_str(), loop.per_second / 1e9);
}

int measure_cpu(int threads, bool as_json) {
  ThreadPool pool(threads);
  const CpuCeilingMeter meter(pool, cpu_features().level);
  const CpuCeilings& c = meter.ceilings();
  if (as_json) {
    Json json = Json::object();
    json.set("device", Json(cpu_features().model));
    json.set("threads", Json(int64_t{c.threads}));
    json.set("read_bytes_per_second", Json(c.read_bytes_per_second));
    json.set("read_name", Json(c.read_name));
    json.set("matmul_flops", Json(c.matmul_flops));
    json.set("matmul_name", Json(c.matmul_name));
    json.set("f32_flops", Json(c.f32_flops));
    json.set("f32_name", Json(c.f32_name));
    json.set("reads", loops_json(c.reads));
    json.set("matmuls", loops_json(c.matmuls));
    return std::printf("%s\n", json.dump(2).c_str()), 0;
  }
  std::printf("%s, %d threads\n", cpu_features().model.c_str(), c.threads);
  print_loops(c.reads, c.matmuls);
  std::printf("best read: %.2f GB/s (%s)\n", c.read_bytes_per_second / 1e9, c.read_name.c_str());
  std::printf("best f32:  %.1f GFLOP/s (%s)\n", c.f32_flops / 1e9, c.f32_name.c_str());
  std::printf("best peak: %.1f GFLOP/s (%s)\n", c.matmul_flops / 1e9, c.matmul_name.c_str());
  return 0;
}

int measure_cuda(bool as_json) {
  CudaCeilingMeter meter(cuda::Device::open(), int64_t{16} << 30);
  const CudaCeilings& c = meter.ceilings();
  const double upload = meter.measure_upload();
  if (as_json) {
    Json json = Json::object();
    json.set("device", Json(c.device));
    json.set("read_bytes_per_second", Json(c.read_bytes_per_second));
    json.set("read_name", Json(c.read_name));
    json.set("copy_bytes_per_second", Json(c.copy_bytes_per_second));
    json.set("upload_bytes_per_second", Json(upload));
    json.set("matmul_flops", Json(c.matmul_flops));
    json.set("matmul_name", Json(c.matmul_name));
    json.set("reads", loops_json(c.reads));
    json.set("matmuls", loops_json(c.matmuls));
    return std::printf("%s\n", json.dump(2).c_str()), 0;
  }
  std::printf("%s\n", c.device.c_str());
  print_loops(c.reads, c.matmuls);
  std::printf("best read: %.1f GB/s (%s)\n", c.read_bytes_per_second / 1e9, c.read_name.c_str());
  std::printf("copy:      %.1f GB/s, read plus written\n", c.copy_bytes_per_second / 1e9);
  std::printf("upload:    %.1f GB/s from pinned host memory\n", upload / 1e9);
  std::printf("best peak: %.1f TFLOP/s (%s)\n", c.matmul_flops / 1e12, c.matmul_name.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  int threads = usable_cpus();
  bool json = false, cuda = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) {
      json = true;
    } else if (std::strcmp(argv[i], "--cuda") == 0) {
      cuda = true;
    } else if (std::strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
      threads = std::max(1, std::atoi(argv[++i]));
    } else {
      std::fprintf(stderr, "usage: bench_ceilings [--cuda | --threads N] [--json]\n");
      return 2;
    }
  }
  return cuda ? measure_cuda(json) : measure_cpu(threads, json);
} catch (const Error& error) {
  std::fprintf(stderr, "bench_ceilings: %s\n", error.what());
  return static_cast<int>(error.code());
}
