// The part of NVRTC's interface that we use, declared by ourselves and looked up at run time, like the driver's.
#pragma once

#include <cstddef>
#include <string>

namespace ingot {

using nvrtcProgram = struct _nvrtcProgram*;
enum nvrtcResult : int { NVRTC_SUCCESS = 0, NVRTC_ERROR_INVALID_OPTION = 5, NVRTC_ERROR_COMPILATION = 6 };

// Symbol, parameters.
#define INGOT_NVRTC_FUNCTIONS(X)                                                                              \
  X(nvrtcVersion, int*, int*)                                                                                 \
  X(nvrtcCreateProgram, nvrtcProgram*, const char*, const char*, int, const char* const*, const char* const*) \
  X(nvrtcDestroyProgram, nvrtcProgram*)                                                                       \
  X(nvrtcCompileProgram, nvrtcProgram, int, const char* const*)                                               \
  X(nvrtcGetProgramLogSize, nvrtcProgram, size_t*)                                                            \
  X(nvrtcGetProgramLog, nvrtcProgram, char*)                                                                  \
  X(nvrtcGetCUBINSize, nvrtcProgram, size_t*)                                                                 \
  X(nvrtcGetCUBIN, nvrtcProgram, char*)

// The functions of NVRTC, all of them there when ok().
struct Nvrtc {
#define INGOT_DECLARE(symbol, ...) nvrtcResult (*symbol)(__VA_ARGS__) = nullptr;
  INGOT_NVRTC_FUNCTIONS(INGOT_DECLARE)
#undef INGOT_DECLARE
  const char* (*nvrtcGetErrorString)(nvrtcResult) = nullptr;

  std::string missing;  // why it cannot be used, or ""
  std::string version;  // "13.0"
  bool ok() const { return missing.empty(); }

  // Opened on first use, once per process. Safe to call from several threads.
  static const Nvrtc& get();
};

}  // namespace ingot
