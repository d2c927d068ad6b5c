// Our declarations of the driver's and NVRTC's interfaces against the toolkit's headers, where there are any.
#include <gtest/gtest.h>

#include <type_traits>

#include "device/cuda/driver_api.h"
#include "tactics/cuda/nvrtc_api.h"

#ifdef INGOT_TEST_CUDA_HEADERS
#include <cuda.h>
#include <nvrtc.h>

namespace {

// Whether two types are passed in the same way. What handles point to is nobody's business.
template <class Ours, class Theirs>
constexpr bool same_value() {
  if constexpr (std::is_pointer_v<Ours> && std::is_pointer_v<Theirs>) {
    using OurTarget = std::remove_cv_t<std::remove_pointer_t<Ours>>;
    using TheirTarget = std::remove_cv_t<std::remove_pointer_t<Theirs>>;
    if constexpr (std::is_scalar_v<OurTarget> || std::is_scalar_v<TheirTarget>)
      return std::is_const_v<std::remove_pointer_t<Ours>> == std::is_const_v<std::remove_pointer_t<Theirs>> &&
             same_value<OurTarget, TheirTarget>();
    return std::is_void_v<OurTarget> == std::is_void_v<TheirTarget>;
  } else {
    return std::is_scalar_v<Ours> && std::is_scalar_v<Theirs> && sizeof(Ours) == sizeof(Theirs) &&
           std::is_pointer_v<Ours> == std::is_pointer_v<Theirs> &&
           std::is_floating_point_v<Ours> == std::is_floating_point_v<Theirs>;
  }
}

template <class Ours, class Theirs>
struct SameCall : std::false_type {};
template <class R, class... A, class S, class... B>
  requires(sizeof...(A) == sizeof...(B))
struct SameCall<R(A...), S(B...)> : std::bool_constant<same_value<R, S>() && (same_value<A, B>() && ...)> {};

static_assert(SameCall<int(char*, size_t), unsigned(char*, uint64_t)>::value);
static_assert(!SameCall<int(char*, size_t), int(char*, int)>::value);
static_assert(!SameCall<int(char*), int(const char*)>::value);
static_assert(!SameCall<int(float), int(int)>::value);
static_assert(!SameCall<int(int**), int(int*)>::value);

}  // namespace

namespace ingot::cuda {
#define CHECK_CALL(symbol, ...) \
  static_assert(SameCall<CUresult(__VA_ARGS__), std::remove_pointer_t<decltype(&::symbol)>>::value, #symbol);
INGOT_CUDA_DRIVER_FUNCTIONS(CHECK_CALL)
#undef CHECK_CALL

#define CHECK_VALUE(name) static_assert(static_cast<long>(name) == static_cast<long>(::name), #name)
CHECK_VALUE(CUDA_SUCCESS);
CHECK_VALUE(CUDA_ERROR_INVALID_VALUE);
CHECK_VALUE(CUDA_ERROR_OUT_OF_MEMORY);
CHECK_VALUE(CUDA_ERROR_STUB_LIBRARY);
CHECK_VALUE(CUDA_ERROR_NO_DEVICE);
CHECK_VALUE(CUDA_ERROR_INVALID_DEVICE);
CHECK_VALUE(CUDA_ERROR_INVALID_IMAGE);
CHECK_VALUE(CUDA_ERROR_NO_BINARY_FOR_GPU);
CHECK_VALUE(CUDA_ERROR_ECC_UNCORRECTABLE);
CHECK_VALUE(CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
CHECK_VALUE(CUDA_ERROR_INVALID_SOURCE);
CHECK_VALUE(CUDA_ERROR_NOT_FOUND);
CHECK_VALUE(CUDA_ERROR_NOT_READY);
CHECK_VALUE(CUDA_ERROR_ILLEGAL_ADDRESS);
CHECK_VALUE(CUDA_ERROR_LAUNCH_TIMEOUT);
CHECK_VALUE(CUDA_ERROR_ASSERT);
CHECK_VALUE(CUDA_ERROR_HARDWARE_STACK_ERROR);
CHECK_VALUE(CUDA_ERROR_ILLEGAL_INSTRUCTION);
CHECK_VALUE(CUDA_ERROR_MISALIGNED_ADDRESS);
CHECK_VALUE(CUDA_ERROR_INVALID_ADDRESS_SPACE);
CHECK_VALUE(CUDA_ERROR_INVALID_PC);
CHECK_VALUE(CUDA_ERROR_LAUNCH_FAILED);
CHECK_VALUE(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
CHECK_VALUE(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
CHECK_VALUE(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
CHECK_VALUE(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
CHECK_VALUE(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
CHECK_VALUE(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
CHECK_VALUE(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
CHECK_VALUE(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
CHECK_VALUE(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES);
CHECK_VALUE(CU_FUNC_ATTRIBUTE_NUM_REGS);
CHECK_VALUE(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
CHECK_VALUE(CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED);
CHECK_VALUE(CU_STREAM_CAPTURE_MODE_RELAXED);
CHECK_VALUE(CU_STREAM_NON_BLOCKING);
CHECK_VALUE(CU_EVENT_DEFAULT);
CHECK_VALUE(CU_EVENT_DISABLE_TIMING);
CHECK_VALUE(CU_LAUNCH_ATTRIBUTE_COOPERATIVE);
CHECK_VALUE(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
CHECK_VALUE(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
CHECK_VALUE(CU_TENSOR_MAP_DATA_TYPE_UINT8);
CHECK_VALUE(CU_TENSOR_MAP_DATA_TYPE_UINT16);
CHECK_VALUE(CU_TENSOR_MAP_DATA_TYPE_UINT32);
CHECK_VALUE(CU_TENSOR_MAP_DATA_TYPE_INT32);
CHECK_VALUE(CU_TENSOR_MAP_DATA_TYPE_UINT64);
CHECK_VALUE(CU_TENSOR_MAP_DATA_TYPE_INT64);
CHECK_VALUE(CU_TENSOR_MAP_DATA_TYPE_FLOAT16);
CHECK_VALUE(CU_TENSOR_MAP_DATA_TYPE_FLOAT32);
CHECK_VALUE(CU_TENSOR_MAP_DATA_TYPE_FLOAT64);
CHECK_VALUE(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16);
CHECK_VALUE(CU_TENSOR_MAP_INTERLEAVE_NONE);
CHECK_VALUE(CU_TENSOR_MAP_SWIZZLE_NONE);
CHECK_VALUE(CU_TENSOR_MAP_SWIZZLE_32B);
CHECK_VALUE(CU_TENSOR_MAP_SWIZZLE_64B);
CHECK_VALUE(CU_TENSOR_MAP_SWIZZLE_128B);
CHECK_VALUE(CU_TENSOR_MAP_L2_PROMOTION_NONE);
CHECK_VALUE(CU_TENSOR_MAP_L2_PROMOTION_L2_64B);
CHECK_VALUE(CU_TENSOR_MAP_L2_PROMOTION_L2_128B);
CHECK_VALUE(CU_TENSOR_MAP_L2_PROMOTION_L2_256B);
CHECK_VALUE(CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
#if CUDA_VERSION >= 12080
CHECK_VALUE(CUDA_ERROR_TENSOR_MEMORY_LEAK);
#endif
#undef CHECK_VALUE

#define CHECK_MEMBER(type, member)                                                                                    \
  static_assert(offsetof(type, member) == offsetof(::type, member) && sizeof(type::member) == sizeof(::type::member), \
                #type "::" #member)
CHECK_MEMBER(CUlaunchAttributeValue, cooperative);
CHECK_MEMBER(CUlaunchAttributeValue, clusterDim);
CHECK_MEMBER(CUlaunchAttributeValue, programmaticStreamSerializationAllowed);
CHECK_MEMBER(CUlaunchAttribute, id);
CHECK_MEMBER(CUlaunchAttribute, value);
CHECK_MEMBER(CUlaunchConfig, gridDimX);
CHECK_MEMBER(CUlaunchConfig, gridDimY);
CHECK_MEMBER(CUlaunchConfig, gridDimZ);
CHECK_MEMBER(CUlaunchConfig, blockDimX);
CHECK_MEMBER(CUlaunchConfig, blockDimY);
CHECK_MEMBER(CUlaunchConfig, blockDimZ);
CHECK_MEMBER(CUlaunchConfig, sharedMemBytes);
CHECK_MEMBER(CUlaunchConfig, hStream);
CHECK_MEMBER(CUlaunchConfig, attrs);
CHECK_MEMBER(CUlaunchConfig, numAttrs);
#undef CHECK_MEMBER
static_assert(sizeof(CUlaunchConfig) == sizeof(::CUlaunchConfig));
static_assert(sizeof(CUlaunchAttribute) == sizeof(::CUlaunchAttribute));
static_assert(alignof(CUlaunchAttribute) == alignof(::CUlaunchAttribute));
static_assert(sizeof(CUtensorMap) == sizeof(::CUtensorMap));
static_assert(alignof(CUtensorMap) >= alignof(::CUtensorMap));
}  // namespace ingot::cuda

namespace ingot {
#define CHECK_CALL(symbol, ...) \
  static_assert(SameCall<nvrtcResult(__VA_ARGS__), std::remove_pointer_t<decltype(&::symbol)>>::value, #symbol);
INGOT_NVRTC_FUNCTIONS(CHECK_CALL)
#undef CHECK_CALL
static_assert(static_cast<int>(NVRTC_SUCCESS) == static_cast<int>(::NVRTC_SUCCESS));
static_assert(static_cast<int>(NVRTC_ERROR_INVALID_OPTION) == static_cast<int>(::NVRTC_ERROR_INVALID_OPTION));
static_assert(static_cast<int>(NVRTC_ERROR_COMPILATION) == static_cast<int>(::NVRTC_ERROR_COMPILATION));
}  // namespace ingot

TEST(CudaAbi, MatchesTheToolkitsHeaders) { SUCCEED() << "compared while compiling, with CUDA " << CUDA_VERSION; }
#else
TEST(CudaAbi, MatchesTheToolkitsHeaders) { GTEST_SKIP() << "there was no <cuda.h> and <nvrtc.h> when this was built"; }
#endif
