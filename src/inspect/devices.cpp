#include "inspect/devices.h"

#include <dlfcn.h>
#include <unistd.h>

#include "base/fields.h"
#include "device/target.h"

namespace ingot {

namespace {
// Opened at run time when a GPU target is used; none is needed for the CPU.
constexpr const char* kLibraries[] = {"libcuda.so.1", "libcublasLt.so.13", "libnvrtc.so.13", "libnccl.so.2"};
}  // namespace

Json describe_devices() {
  const CpuFeatures& features = cpu_features();
  Json cpu = Json::object();
  cpu.set("model", features.model);
  cpu.set("cores", features.cores);
  cpu.set("target", "cpu:" + std::string(enum_name(features.level)));
  Json sets = Json::array();
  for (const std::string& name : features.instruction_sets) sets.push(name);
  cpu.set("instruction_sets", sets);
  cpu.set("memory_bytes", static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE));
  Json libraries = Json::array();
  for (const char* name : kLibraries) {
    void* handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
    Json library = Json::object();
    library.set("library", name);
    library.set("found", handle != nullptr);
    if (handle) dlclose(handle);
    libraries.push(library);
  }
  Json json = Json::object();
  json.set("cpu", cpu);
  json.set("gpus", Json::array());
  json.set("libraries", libraries);
  return json;
}

}  // namespace ingot
