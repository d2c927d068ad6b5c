#include "inspect/devices.h"

#include <unistd.h>

#include "base/fields.h"
#include "device/cuda/device.h"
#include "device/cuda/library.h"
#include "device/target.h"
#include "tactics/cuda/device_code.h"

namespace ingot {

namespace {

Json describe_cpu() {
  const CpuFeatures& features = cpu_features();
  Json cpu = Json::object();
  cpu.set("model", features.model);
  cpu.set("cores", features.cores);
  cpu.set("target", "cpu:" + std::string(enum_name(features.level)));
  Json sets = Json::array();
  for (const std::string& name : features.instruction_sets) sets.push(name);
  cpu.set("instruction_sets", sets);
  cpu.set("memory_bytes", static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE));
  return cpu;
}

Json describe_gpus() {
  Json gpus = Json::array();
  for (const cuda::DeviceFacts& facts : cuda::Device::list()) {
    Json gpu = Json::object();
    gpu.set("name", facts.name);
    gpu.set("compute_capability", format("{}.{}", facts.compute_major, facts.compute_minor));
    gpu.set("multiprocessors", facts.multiprocessors);
    gpu.set("memory_bytes", facts.memory_bytes);
    gpus.push(gpu);
  }
  return gpus;
}

// Opened at run time when a GPU target is used; none is needed for the CPU. `missing` says why a library is of no use,
// which may be so although it was found.
Json describe_library(std::string_view name, std::string_view version, std::string_view missing) {
  Json library = Json::object();
  library.set("library", name);
  library.set("found", missing.empty() || !version.empty());
  if (!version.empty()) library.set("version", version);
  if (!missing.empty()) library.set("missing", missing);
  return library;
}

Json describe_driver() {
  const cuda::Driver& driver = cuda::Driver::get();
  const std::string version =
      driver.version ? format("{}.{}", driver.version / 1000, driver.version % 1000 / 10) : std::string();
  return describe_library("CUDA driver", version, cuda::Device::missing());
}

Json describe_cublaslt() {
  const cuda::SharedLibrary library{"libcublasLt.so.13", "libcublasLt.so.12"};
  const auto get_version = reinterpret_cast<size_t (*)()>(library.symbol("cublasLtGetVersion"));
  const size_t version = get_version ? get_version() : 0;
  return describe_library("cuBLASLt",
                          version ? format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100) : "",
                          library.missing());
}

}  // namespace

Json describe_devices() {
  Json libraries = Json::array();
  libraries.push(describe_driver());
  libraries.push(describe_library("NVRTC", compiler_version(), why_no_compiler()));
  libraries.push(describe_cublaslt());
  Json json = Json::object();
  json.set("cpu", describe_cpu());
  json.set("gpus", describe_gpus());
  json.set("libraries", libraries);
  return json;
}

}  // namespace ingot
