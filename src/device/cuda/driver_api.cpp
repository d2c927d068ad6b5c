#include "device/cuda/driver_api.h"

#include "base/format.h"
#include "device/cuda/library.h"

namespace ingot::cuda {

namespace {
constexpr int kOldestVersion = 12000;  // launch attributes and tensor maps

std::string print_version(int version) { return format("{}.{}", version / 1000, version % 1000 / 10); }

// What to say when cuInit fails.
std::string cannot_start(const Driver& driver, CUresult result) {
  std::string text = "the NVIDIA driver does not start: " + driver.words(result);
  if (result == CUDA_ERROR_NO_DEVICE) text = "there is no NVIDIA GPU that this process may use (CUDA_ERROR_NO_DEVICE)";
  if (result == CUDA_ERROR_STUB_LIBRARY) text += "; the libcuda.so.1 found is a toolkit's stub, not the driver's";
  if (result == CUDA_ERROR_SYSTEM_DRIVER_MISMATCH) text += "; the library and the kernel module differ";
  return text;
}

Driver load() {
  Driver driver;
#ifdef INGOT_WITHOUT_CUDA
  driver.missing = "this ingot was built without the CUDA target (INGOT_CUDA=OFF)";
  return driver;
#endif
  const SharedLibrary library{"libcuda.so.1", "libcuda.so"};
  if (!library.ok()) {
    driver.missing = "the NVIDIA driver's library is missing: " + library.missing();
    return driver;
  }
  std::string absent;
#define INGOT_LOAD(NAME, ...)                                                   \
  driver.NAME = reinterpret_cast<decltype(driver.NAME)>(library.symbol(#NAME)); \
  if (!driver.NAME && absent.empty()) absent = #NAME;
  INGOT_CUDA_DRIVER_FUNCTIONS(INGOT_LOAD)
#undef INGOT_LOAD
  if (driver.cuDriverGetVersion && driver.cuDriverGetVersion(&driver.version) != CUDA_SUCCESS) driver.version = 0;
  if (!absent.empty() || driver.version < kOldestVersion) {
    driver.missing = format("the NVIDIA driver is too old: it supports CUDA {}, needed is CUDA {} or newer",
                            print_version(driver.version), print_version(kOldestVersion));
    if (!absent.empty()) driver.missing += " (it has no " + absent + ")";
    return driver;
  }
  if (const CUresult result = driver.cuInit(0); result != CUDA_SUCCESS) driver.missing = cannot_start(driver, result);
  return driver;
}
}  // namespace

const Driver& Driver::get() {
  static const Driver driver = load();
  return driver;
}

std::string Driver::words(CUresult result) const {
  const char *name = nullptr, *text = nullptr;
  cuGetErrorName(result, &name);
  cuGetErrorString(result, &text);
  if (!name || !text) return format("error {} of the CUDA driver", static_cast<int>(result));
  return format("{} ({})", text, name);
}

}  // namespace ingot::cuda
