#include "device/cuda/device.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "base/error.h"

namespace ingot::cuda {

struct Device::State {
  CUdevice device = 0;
  CUcontext context = nullptr;
  std::mutex mutex;  // guards the maps
  std::map<std::string, CUmodule, std::less<>> modules;
  std::map<std::pair<CUmodule, std::string>, std::pair<CUfunction, int64_t>> functions;  // with the bytes allowed
};

namespace {
// After these the driver refuses everything until the process ends.
bool ends_process(CUresult result) {
  return result == CUDA_ERROR_ECC_UNCORRECTABLE || result == CUDA_ERROR_ILLEGAL_ADDRESS ||
         result == CUDA_ERROR_LAUNCH_TIMEOUT || result == CUDA_ERROR_TENSOR_MEMORY_LEAK ||
         (result >= CUDA_ERROR_ASSERT && result <= CUDA_ERROR_LAUNCH_FAILED);
}

void expect(const Driver& driver, CUresult result, std::string_view what) {
  if (result == CUDA_SUCCESS) return;
  const ErrorCode code = result == CUDA_ERROR_OUT_OF_MEMORY ? ErrorCode::kDoesNotFit : ErrorCode::kRuntime;
  fail(code, "{}: {}{}", what, driver.words(result),
       ends_process(result) ? "; the GPU refuses further work of this process: start it again" : "");
}

int attribute(const Driver& driver, CUdevice device, CUdevice_attribute which) {
  int value = 0;
  expect(driver, driver.cuDeviceGetAttribute(&value, which, device), "cuDeviceGetAttribute");
  return value;
}

DeviceFacts read_facts(const Driver& driver, CUdevice device) {
  DeviceFacts facts;
  char name[256] = "";
  expect(driver, driver.cuDeviceGetName(name, sizeof name, device), "cuDeviceGetName");
  facts.name = name;
  facts.compute_major = attribute(driver, device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  facts.compute_minor = attribute(driver, device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  facts.multiprocessors = attribute(driver, device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  facts.l2_bytes = attribute(driver, device, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
  facts.shared_bytes_per_block = attribute(driver, device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
  size_t bytes = 0;
  expect(driver, driver.cuDeviceTotalMem_v2(&bytes, device), "cuDeviceTotalMem");
  facts.memory_bytes = bytes;
  facts.driver_version = driver.version;
  return facts;
}

int device_count(const Driver& driver) {
  int count = 0;
  return driver.ok() && driver.cuDeviceGetCount(&count) == CUDA_SUCCESS ? count : 0;
}

// cuModuleLoadData is not told the size: whether all that the image points to lies inside it.
bool whole_image(std::span<const std::byte> image) {
  Elf64_Ehdr header;
  if (image.size() < sizeof header) return false;
  std::memcpy(&header, image.data(), sizeof header);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64) return false;
  const auto inside = [&](uint64_t offset, uint64_t size) {
    return offset <= image.size() && size <= image.size() - offset;
  };
  if (header.e_shentsize != sizeof(Elf64_Shdr) || !inside(header.e_shoff, header.e_shnum * sizeof(Elf64_Shdr)) ||
      !inside(header.e_phoff, uint64_t{header.e_phnum} * header.e_phentsize))
    return false;
  for (int i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    std::memcpy(&section, image.data() + header.e_shoff + i * sizeof section, sizeof section);
    if (section.sh_type != SHT_NOBITS && !inside(section.sh_offset, section.sh_size)) return false;
  }
  return true;
}
}  // namespace

std::string Device::missing(int ordinal) {
  const Driver& driver = Driver::get();
  if (!driver.ok()) return driver.missing;
  const int count = device_count(driver);
  if (ordinal >= 0 && ordinal < count) return "";
  return format("there is no GPU {}: this process sees {}", ordinal, count);
}

std::vector<DeviceFacts> Device::list() {
  const Driver& driver = Driver::get();
  std::vector<DeviceFacts> all;
  for (int ordinal = 0; ordinal < device_count(driver); ++ordinal) {
    CUdevice device = 0;
    expect(driver, driver.cuDeviceGet(&device, ordinal), "cuDeviceGet");
    all.push_back(read_facts(driver, device));
  }
  return all;
}

std::shared_ptr<Device> Device::open(int ordinal) {
  static std::mutex mutex;
  // Never destroyed: at the end of the process the driver may be gone before us.
  static auto& opened = *new std::map<int, DevicePtr>;
  if (const std::string reason = missing(ordinal); !reason.empty()) fail(ErrorCode::kIncompatible, "{}", reason);
  const std::lock_guard lock(mutex);
  DevicePtr& device = opened[ordinal];
  if (!device) device = DevicePtr(new Device(ordinal));
  return device;
}

Device::Device(int ordinal) : driver_(&Driver::get()), state_(std::make_unique<State>()) {
  check(driver_->cuDeviceGet(&state_->device, ordinal), "cuDeviceGet");
  facts_ = read_facts(*driver_, state_->device);
  check(driver_->cuDevicePrimaryCtxRetain(&state_->context, state_->device),
        format("opening GPU {} ({})", ordinal, facts_.name));
}

Device::~Device() {
  for (const auto& [name, module] : state_->modules) driver_->cuModuleUnload(module);
  driver_->cuDevicePrimaryCtxRelease_v2(state_->device);
}

void Device::check(CUresult result, std::string_view what) const {
  if (ends_process(result)) lost_ = true;
  expect(*driver_, result, what);
}

bool Device::try_make_current() const noexcept {
  // Others in this process may have changed it: asked every time, it takes nanoseconds.
  CUcontext current = nullptr;
  if (driver_->cuCtxGetCurrent(&current) == CUDA_SUCCESS && current == state_->context) return true;
  return driver_->cuCtxSetCurrent(state_->context) == CUDA_SUCCESS;
}

void Device::make_current() const {
  if (!try_make_current()) check(driver_->cuCtxSetCurrent(state_->context), "cuCtxSetCurrent");
}

uint64_t Device::free_bytes() const {
  make_current();
  size_t free = 0, total = 0;
  check(driver_->cuMemGetInfo_v2(&free, &total), "cuMemGetInfo");
  return free;
}

CUmodule Device::module(std::string_view name, std::span<const std::byte> image) {
  make_current();
  const std::lock_guard lock(state_->mutex);
  if (const auto found = state_->modules.find(name); found != state_->modules.end()) return found->second;
  if (!whole_image(image)) fail(ErrorCode::kIncompatible, "the device code {} is damaged or no cubin", name);
  CUmodule module = nullptr;
  // Images come from the middle of files; the driver reads them as aligned structs.
  std::vector<uint64_t> aligned((image.size() + 7) / 8);
  std::memcpy(aligned.data(), image.data(), image.size());
  const CUresult result = driver_->cuModuleLoadData(&module, aligned.data());
  if (result == CUDA_ERROR_NO_BINARY_FOR_GPU || result == CUDA_ERROR_INVALID_IMAGE ||
      result == CUDA_ERROR_INVALID_SOURCE || result == CUDA_ERROR_UNSUPPORTED_PTX_VERSION)
    fail(ErrorCode::kIncompatible, "the device code {} does not fit this GPU ({}, compute capability {}.{}): {}", name,
         facts_.name, facts_.compute_major, facts_.compute_minor, driver_->words(result));
  check(result, format("loading the device code {}", name));
  state_->modules.emplace(name, module);
  return module;
}

CUfunction Device::function(CUmodule module, const std::string& name, int64_t shared_bytes) {
  make_current();
  const std::lock_guard lock(state_->mutex);
  auto& [function, allowed] = state_->functions[{module, name}];
  if (!function) {
    CUfunction found = nullptr;
    check(driver_->cuModuleGetFunction(&found, module, name.c_str()), format("looking up the kernel {}", name));
    if (facts_.compute_major >= 9)
      check(driver_->cuFuncSetAttribute(found, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1),
            "cuFuncSetAttribute");
    function = found;
  }
  if (shared_bytes > allowed) {
    if (shared_bytes > facts_.shared_bytes_per_block)
      fail(ErrorCode::kIncompatible, "the kernel {} needs {} bytes of shared memory; a block of {} has {}", name,
           shared_bytes, facts_.name, facts_.shared_bytes_per_block);
    check(driver_->cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                      static_cast<int>(shared_bytes)),
          format("allowing the kernel {} {} bytes of shared memory", name, shared_bytes));
    allowed = shared_bytes;
  }
  return function;
}

}  // namespace ingot::cuda
