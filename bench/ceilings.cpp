// Prints what this machine can reach: read bandwidth and matrix peaks. `bench_ceilings [--threads N] [--json]`
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/json.h"
#include "inspect/ceilings.h"

using namespace ingot;

namespace {

Json to_json(const CpuCeilings& c) {
  auto loops = [](const std::vector<CeilingLoop>& list) {
    Json object = Json::object();
    for (const CeilingLoop& loop : list) object.set(loop.name, Json(loop.per_second));
    return object;
  };
  Json json = Json::object();
  json.set("device", Json(cpu_features().model));
  json.set("threads", Json(int64_t{c.threads}));
  json.set("read_bytes_per_second", Json(c.read_bytes_per_second));
  json.set("read_name", Json(c.read_name));
  json.set("matmul_flops", Json(c.matmul_flops));
  json.set("matmul_name", Json(c.matmul_name));
  json.set("f32_flops", Json(c.f32_flops));
  json.set("f32_name", Json(c.f32_name));
  json.set("reads", loops(c.reads));
  json.set("matmuls", loops(c.matmuls));
  return json;
}

void print_text(const CpuCeilings& c) {
  std::printf("%s, %d threads\n", cpu_features().model.c_str(), c.threads);
  for (const CeilingLoop& loop : c.reads)
    std::printf("  read %-36s %8.2f GB/s\n", loop.name.c_str(), loop.per_second / 1e9);
  for (const CeilingLoop& loop : c.matmuls)
    std::printf("  peak %-36s %8.1f GFLOP/s\n", loop.name.c_str(), loop.per_second / 1e9);
  std::printf("best read: %.2f GB/s (%s)\n", c.read_bytes_per_second / 1e9, c.read_name.c_str());
  std::printf("best f32:  %.1f GFLOP/s (%s)\n", c.f32_flops / 1e9, c.f32_name.c_str());
  std::printf("best peak: %.1f GFLOP/s (%s)\n", c.matmul_flops / 1e9, c.matmul_name.c_str());
}

}  // namespace

int main(int argc, char** argv) try {
  int threads = usable_cpus();
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) {
      json = true;
    } else if (std::strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
      threads = std::max(1, std::atoi(argv[++i]));
    } else {
      std::fprintf(stderr, "usage: bench_ceilings [--threads N] [--json]\n");
      return 2;
    }
  }
  ThreadPool pool(threads);
  CeilingMeter meter(pool, cpu_features().level);
  if (json)
    std::printf("%s\n", to_json(meter.ceilings()).dump(2).c_str());
  else
    print_text(meter.ceilings());
  return 0;
} catch (const Error& error) {
  std::fprintf(stderr, "bench_ceilings: %s\n", error.what());
  return 1;
}
