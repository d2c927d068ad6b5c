// How long an engine takes from its file to the first token. The file is read once before, so that it comes from the
// page cache. Opening the GPU (the driver, a context) has a time of its own. `bench_load ENGINE_DIR [--no-verify]`
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <vector>

#include "base/error.h"
#include "device/cuda/device.h"
#include "generate/token_session.h"
#include "inspect/ceilings_cuda.h"

using namespace ingot;

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void read_all(const Path& directory) {
  std::vector<char> block(16 << 20);
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    std::ifstream file(entry.path(), std::ios::binary);
    while (file.read(block.data(), static_cast<std::streamsize>(block.size()))) {
    }
  }
}

void measure(const Path& directory, bool verify) {
  read_all(directory);
  const Clock::time_point begin = Clock::now();
  if (cuda::Device::missing().empty()) cuda::Device::open();
  const double opened = seconds_since(begin);
  const Clock::time_point start = Clock::now();
  auto engine = LoadedEngine::load(directory, {.verify_weights = verify});
  const double loaded = seconds_since(start);
  double first = 0, weights = 0;
  {
    TokenSessionOptions options;
    options.eos_ids = std::vector<int32_t>{};
    TokenSession session(engine, options);
    TokenRequest request;
    for (int32_t i = 0; i < 32; ++i) request.ids.push_back(i * 37 % static_cast<int32_t>(session.vocab_size()));
    request.params.max_tokens = 2;
    request.params.ignore_eos = true;
    session.submit(request);
    while (session.step().empty()) {
    }
    first = seconds_since(begin);
  }
  for (const PlanWeight& weight : engine->plan().weights) weights += static_cast<double>(weight.bytes);
  std::printf(
      "opening the GPU %.3f s; load %.3f s, %.1f GB of weights at %.2f GB/s%s; first token after %.3f s in all\n",
      opened, loaded, weights / 1e9, weights / loaded / 1e9, verify ? ", checksums verified" : "", first);
  if (!engine->device()) return;
  CudaCeilingMeter meter(engine->device(), int64_t{1} << 30, 1);
  const double upload = meter.measure_upload();
  std::printf("upload from pinned memory: %.2f GB/s; share %.1f %%\n", upload / 1e9, 100 * weights / loaded / upload);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_load ENGINE_DIR [--no-verify]\n");
    return 2;
  }
  measure(argv[1], !(argc > 2 && std::strcmp(argv[2], "--no-verify") == 0));
  return 0;
} catch (const Error& error) {
  std::fprintf(stderr, "bench_load: %s\n", error.what());
  return static_cast<int>(error.code());
}
