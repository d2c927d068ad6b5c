// The part of the CUDA driver's interface that we use, declared by ourselves: the product is built without any toolkit
// and looks the functions up in libcuda.so.1 at run time. Names, values and layouts are the driver's and never change
// under one name; tests/device/cuda_abi_test.cpp holds them against <cuda.h> where there is one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace ingot::cuda {

using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct CUctx_st*;
using CUmodule = struct CUmod_st*;
using CUfunction = struct CUfunc_st*;
using CUstream = struct CUstream_st*;
using CUevent = struct CUevent_st*;
using CUgraph = struct CUgraph_st*;
using CUgraphExec = struct CUgraphExec_st*;

// Only the results that we tell apart; the driver names the others.
enum CUresult : int {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_STUB_LIBRARY = 34,
  CUDA_ERROR_NO_DEVICE = 100,
  CUDA_ERROR_INVALID_DEVICE = 101,
  CUDA_ERROR_INVALID_IMAGE = 200,
  CUDA_ERROR_NO_BINARY_FOR_GPU = 209,
  CUDA_ERROR_ECC_UNCORRECTABLE = 214,
  CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222,
  CUDA_ERROR_INVALID_SOURCE = 300,
  CUDA_ERROR_NOT_FOUND = 500,
  CUDA_ERROR_NOT_READY = 600,
  CUDA_ERROR_ILLEGAL_ADDRESS = 700,
  CUDA_ERROR_LAUNCH_TIMEOUT = 702,
  CUDA_ERROR_ASSERT = 710,
  CUDA_ERROR_HARDWARE_STACK_ERROR = 714,
  CUDA_ERROR_ILLEGAL_INSTRUCTION = 715,
  CUDA_ERROR_MISALIGNED_ADDRESS = 716,
  CUDA_ERROR_INVALID_ADDRESS_SPACE = 717,
  CUDA_ERROR_INVALID_PC = 718,
  CUDA_ERROR_LAUNCH_FAILED = 719,
  CUDA_ERROR_TENSOR_MEMORY_LEAK = 721,
  CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803,
};

enum CUdevice_attribute : int {
  CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
  CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE = 38,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
  CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97,
};

enum CUfunction_attribute : int {
  CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 0,
  CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES = 1,
  CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES = 3,
  CU_FUNC_ATTRIBUTE_NUM_REGS = 4,
  CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8,
  CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED = 14,
};

enum CUstreamCaptureMode : int { CU_STREAM_CAPTURE_MODE_RELAXED = 2 };
inline constexpr unsigned CU_STREAM_NON_BLOCKING = 1;
inline constexpr unsigned CU_EVENT_DEFAULT = 0;
inline constexpr unsigned CU_EVENT_DISABLE_TIMING = 2;

// --- launches -------------------------------------------------------------------------------------------------------

enum CUlaunchAttributeID : int {
  CU_LAUNCH_ATTRIBUTE_COOPERATIVE = 2,
  CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION = 4,
  CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION = 6,
};

union CUlaunchAttributeValue {
  char pad[64];
  int cooperative;
  struct {
    unsigned x, y, z;
  } clusterDim;
  int programmaticStreamSerializationAllowed;
  void* pointer;  // stands for members that we leave out; they decide the alignment
};

struct CUlaunchAttribute {
  CUlaunchAttributeID id;
  char pad[4];
  CUlaunchAttributeValue value;
};

struct CUlaunchConfig {
  unsigned gridDimX, gridDimY, gridDimZ;
  unsigned blockDimX, blockDimY, blockDimZ;
  unsigned sharedMemBytes;
  CUstream hStream;
  CUlaunchAttribute* attrs;
  unsigned numAttrs;
};

// --- tensor maps ----------------------------------------------------------------------------------------------------

// The first coordinate that device code asks for must lie at a multiple of 16 bytes; otherwise the copy is an illegal
// instruction. The alignment: 64 is what the hardware and older headers ask for, 128 what newer ones do.
struct alignas(128) CUtensorMap {
  uint64_t opaque[16];
};

enum CUtensorMapDataType : int {
  CU_TENSOR_MAP_DATA_TYPE_UINT8 = 0,
  CU_TENSOR_MAP_DATA_TYPE_UINT16 = 1,
  CU_TENSOR_MAP_DATA_TYPE_UINT32 = 2,
  CU_TENSOR_MAP_DATA_TYPE_INT32 = 3,
  CU_TENSOR_MAP_DATA_TYPE_UINT64 = 4,
  CU_TENSOR_MAP_DATA_TYPE_INT64 = 5,
  CU_TENSOR_MAP_DATA_TYPE_FLOAT16 = 6,
  CU_TENSOR_MAP_DATA_TYPE_FLOAT32 = 7,
  CU_TENSOR_MAP_DATA_TYPE_FLOAT64 = 8,
  CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 = 9,
};
enum CUtensorMapInterleave : int { CU_TENSOR_MAP_INTERLEAVE_NONE = 0 };
enum CUtensorMapSwizzle : int {
  CU_TENSOR_MAP_SWIZZLE_NONE = 0,
  CU_TENSOR_MAP_SWIZZLE_32B = 1,
  CU_TENSOR_MAP_SWIZZLE_64B = 2,
  CU_TENSOR_MAP_SWIZZLE_128B = 3,
};
enum CUtensorMapL2promotion : int {
  CU_TENSOR_MAP_L2_PROMOTION_NONE = 0,
  CU_TENSOR_MAP_L2_PROMOTION_L2_64B = 1,
  CU_TENSOR_MAP_L2_PROMOTION_L2_128B = 2,
  CU_TENSOR_MAP_L2_PROMOTION_L2_256B = 3,
};
enum CUtensorMapFloatOOBfill : int { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE = 0 };

// --- functions ------------------------------------------------------------------------------------------------------

// Symbol, parameters. The suffixes are those that the headers map the plain names to.
#define INGOT_CUDA_DRIVER_FUNCTIONS(X)                                                                            \
  X(cuInit, unsigned)                                                                                             \
  X(cuDriverGetVersion, int*)                                                                                     \
  X(cuGetErrorName, CUresult, const char**)                                                                       \
  X(cuGetErrorString, CUresult, const char**)                                                                     \
  X(cuDeviceGetCount, int*)                                                                                       \
  X(cuDeviceGet, CUdevice*, int)                                                                                  \
  X(cuDeviceGetName, char*, int, CUdevice)                                                                        \
  X(cuDeviceTotalMem_v2, size_t*, CUdevice)                                                                       \
  X(cuDeviceGetAttribute, int*, CUdevice_attribute, CUdevice)                                                     \
  X(cuDevicePrimaryCtxRetain, CUcontext*, CUdevice)                                                               \
  X(cuDevicePrimaryCtxRelease_v2, CUdevice)                                                                       \
  X(cuCtxGetCurrent, CUcontext*)                                                                                  \
  X(cuCtxSetCurrent, CUcontext)                                                                                   \
  X(cuCtxSynchronize)                                                                                             \
  X(cuMemGetInfo_v2, size_t*, size_t*)                                                                            \
  X(cuMemAlloc_v2, CUdeviceptr*, size_t)                                                                          \
  X(cuMemFree_v2, CUdeviceptr)                                                                                    \
  X(cuMemHostAlloc, void**, size_t, unsigned)                                                                     \
  X(cuMemFreeHost, void*)                                                                                         \
  X(cuMemcpyHtoDAsync_v2, CUdeviceptr, const void*, size_t, CUstream)                                             \
  X(cuMemcpyDtoHAsync_v2, void*, CUdeviceptr, size_t, CUstream)                                                   \
  X(cuMemcpyDtoDAsync_v2, CUdeviceptr, CUdeviceptr, size_t, CUstream)                                             \
  X(cuMemsetD8Async, CUdeviceptr, unsigned char, size_t, CUstream)                                                \
  X(cuStreamCreate, CUstream*, unsigned)                                                                          \
  X(cuStreamDestroy_v2, CUstream)                                                                                 \
  X(cuStreamSynchronize, CUstream)                                                                                \
  X(cuStreamWaitEvent, CUstream, CUevent, unsigned)                                                               \
  X(cuStreamBeginCapture_v2, CUstream, CUstreamCaptureMode)                                                       \
  X(cuStreamEndCapture, CUstream, CUgraph*)                                                                       \
  X(cuEventCreate, CUevent*, unsigned)                                                                            \
  X(cuEventDestroy_v2, CUevent)                                                                                   \
  X(cuEventRecord, CUevent, CUstream)                                                                             \
  X(cuEventQuery, CUevent)                                                                                        \
  X(cuEventSynchronize, CUevent)                                                                                  \
  X(cuEventElapsedTime, float*, CUevent, CUevent)                                                                 \
  X(cuGraphInstantiateWithFlags, CUgraphExec*, CUgraph, unsigned long long)                                       \
  X(cuGraphLaunch, CUgraphExec, CUstream)                                                                         \
  X(cuGraphUpload, CUgraphExec, CUstream)                                                                         \
  X(cuGraphDestroy, CUgraph)                                                                                      \
  X(cuGraphExecDestroy, CUgraphExec)                                                                              \
  X(cuModuleLoadData, CUmodule*, const void*)                                                                     \
  X(cuModuleUnload, CUmodule)                                                                                     \
  X(cuModuleGetFunction, CUfunction*, CUmodule, const char*)                                                      \
  X(cuFuncGetAttribute, int*, CUfunction_attribute, CUfunction)                                                   \
  X(cuFuncSetAttribute, CUfunction, CUfunction_attribute, int)                                                    \
  X(cuOccupancyMaxActiveBlocksPerMultiprocessor, int*, CUfunction, int, size_t)                                   \
  X(cuLaunchKernelEx, const CUlaunchConfig*, CUfunction, void**, void**)                                          \
  X(cuTensorMapEncodeTiled, CUtensorMap*, CUtensorMapDataType, uint32_t, void*, const uint64_t*, const uint64_t*, \
    const uint32_t*, const uint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,          \
    CUtensorMapFloatOOBfill)

// The functions of the driver, all of them there when ok().
struct Driver {
#define INGOT_DECLARE(symbol, ...) CUresult (*symbol)(__VA_ARGS__) = nullptr;
  INGOT_CUDA_DRIVER_FUNCTIONS(INGOT_DECLARE)
#undef INGOT_DECLARE

  std::string missing;  // why it cannot be used, or ""
  int version = 0;      // 13000: what the driver supports; known even when it is too old
  bool ok() const { return missing.empty(); }

  // Opened and initialized on first use, once per process. Safe to call from several threads.
  static const Driver& get();
  // "out of memory (CUDA_ERROR_OUT_OF_MEMORY)".
  std::string words(CUresult result) const;
};

}  // namespace ingot::cuda
