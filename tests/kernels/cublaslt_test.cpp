// The declarations of cuBLASLt against the library's own header, where there is one; and what its launcher does on any
// machine.
#include "kernels/cuda/cublaslt.h"

#include "kernels/cuda/cublaslt_api.h"
#include "kernels/run_kernel.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#endif

namespace ingot {
namespace {

#if __has_include(<cublasLt.h>)
static_assert(CUBLAS_VER_MAJOR == 13);
static_assert(sizeof(cublaslt::Layout) == sizeof(cublasLtMatrixLayoutOpaque_t));
static_assert(sizeof(cublaslt::Operation) == sizeof(cublasLtMatmulDescOpaque_t));
static_assert(sizeof(cublaslt::Preference) == sizeof(cublasLtMatmulPreferenceOpaque_t));
static_assert(sizeof(cublaslt::Algorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(sizeof(cublaslt::HeuristicResult) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(cublaslt::HeuristicResult, workspace_bytes) ==
              offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(cublaslt::HeuristicResult, state) == offsetof(cublasLtMatmulHeuristicResult_t, state));
static_assert(sizeof(cublaslt::Status) == sizeof(cublasStatus_t) && CUBLAS_STATUS_SUCCESS == 0 &&
              cublaslt::kNotSupported == CUBLAS_STATUS_NOT_SUPPORTED);
static_assert(int{cublaslt::kFloat32} == CUDA_R_32F && int{cublaslt::kFloat16} == CUDA_R_16F &&
              int{cublaslt::kBFloat16} == CUDA_R_16BF);
static_assert(int{cublaslt::kCompute32F} == CUBLAS_COMPUTE_32F && int{cublaslt::kTranspose} == CUBLAS_OP_T);
static_assert(int{cublaslt::kTransposeA} == CUBLASLT_MATMUL_DESC_TRANSA &&
              int{cublaslt::kEpilogue} == CUBLASLT_MATMUL_DESC_EPILOGUE &&
              int{cublaslt::kBiasPointer} == CUBLASLT_MATMUL_DESC_BIAS_POINTER);
static_assert(uint32_t{cublaslt::kPlain} == CUBLASLT_EPILOGUE_DEFAULT &&
              (cublaslt::kRelu | cublaslt::kBias) == CUBLASLT_EPILOGUE_RELU_BIAS &&
              (cublaslt::kGelu | cublaslt::kBias) == CUBLASLT_EPILOGUE_GELU_BIAS &&
              uint32_t{cublaslt::kBias} == CUBLASLT_EPILOGUE_BIAS);
static_assert(int{cublaslt::kMaxWorkspaceBytes} == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES &&
              int{cublaslt::kReductionSchemes} == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK &&
              int{cublaslt::kAlignmentA} == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES &&
              int{cublaslt::kAlignmentB} == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES &&
              int{cublaslt::kAlignmentC} == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES &&
              int{cublaslt::kAlignmentD} == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
static_assert(uint32_t{cublaslt::kInComputeType} == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE &&
              uint32_t{cublaslt::kNoReduction} == CUBLASLT_REDUCTION_SCHEME_NONE);
#endif

ErrorCode code_of(const std::string& parameters) {
  try {
    make_kernel("cuda.cublaslt", parameters);
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode{};
}

TEST(Cublaslt, AlgorithmsAreText) {
  cublaslt::Algorithm algorithm{{0x0123456789abcdef, 0, 7, 0, 0, 0, 0, 0}};
  EXPECT_EQ(cublaslt::print_algorithm(algorithm), "0123456789abcdef00000000000000000000000000000007");
  EXPECT_EQ(cublaslt::parse_algorithm(cublaslt::print_algorithm(algorithm)), algorithm);
  algorithm.data[7] = ~uint64_t{0};
  EXPECT_EQ(cublaslt::print_algorithm(algorithm).size(), 128u);
  EXPECT_EQ(cublaslt::parse_algorithm(cublaslt::print_algorithm(algorithm)), algorithm);
  EXPECT_EQ(cublaslt::parse_algorithm(""), cublaslt::Algorithm{});
}

TEST(Cublaslt, OtherTextIsNoAlgorithm) {
  EXPECT_THROW(cublaslt::parse_algorithm("0123456789abcde"), Error);
  EXPECT_THROW(cublaslt::parse_algorithm("0123456789abcdeg"), Error);
  EXPECT_THROW(cublaslt::parse_algorithm("+123456789abcdef"), Error);
  EXPECT_THROW(cublaslt::parse_algorithm(std::string(144, '1')), Error);
}

TEST(Cublaslt, DescriptorsNeedNoGpu) {
  const cublaslt::Library& library = cublaslt::Library::get();
  if (!library.ok()) GTEST_SKIP() << library.missing;
  EXPECT_GE(library.version, 130000);
  const cublaslt::Connection connection{library};
  const Matmul op{.bias = true, .function = ActivationFunction::kRelu};
  EXPECT_NO_THROW(cublaslt::Descriptors(connection, {op, 3, 64, 128, DType::kBF16, DType::kF32}, &op));
  EXPECT_THROW(cublaslt::Descriptors(connection, {op, 3, 64, 128, DType::kI32, DType::kF32}, &op), Error);
}

// No library has version 1, so this is what happens wherever the version is not the one of the build.
TEST(Cublaslt, AnotherVersionRunsTheFallback) {
  const Matmul op{.bias = true, .function = ActivationFunction::kRelu};
  const HostTensors inputs = {random_tensor(DType::kF32, {5, 32}, 1), random_tensor(DType::kF32, {24, 32}, 2),
                              random_tensor(DType::kF32, {24}, 3)};
  CublasltMatmul parameters;
  static_cast<Matmul&>(parameters) = op;
  parameters.version = 1;
  parameters.fallback_kernels = {"cpu.matmul_portable"};
  parameters.fallback_parameters = {"{bias = true, function = relu}"};
  const HostTensors actual = run_kernel({"cuda.cublaslt", print_fields(parameters)}, op, inputs);
  expect_close(actual, op.evaluate(inputs), 1e-5, 1e-5, "the fallback");
}

TEST(Cublaslt, UnusableParametersAreIncompatible) {
  EXPECT_EQ(code_of("{version = 1}"), ErrorCode::kIncompatible);
  EXPECT_EQ(code_of("{version = 1, fallback_kernels = [\"cpu.add\"]}"), ErrorCode::kIncompatible);
  EXPECT_EQ(code_of("{version = 1, fallback_kernels = [\"no.such\"], fallback_parameters = [\"\"]}"),
            ErrorCode::kIncompatible);
  EXPECT_EQ(code_of("{algorithm = xyz, fallback_kernels = [\"cpu.slice\"], fallback_parameters = [\"\"]}"),
            ErrorCode::kIncompatible);
  EXPECT_EQ(code_of("{workspace_bytes = -1}"), ErrorCode::kIncompatible);
  // With a fallback that would do.
  const std::string gated =
      "{gated = true, version = 1, fallback_kernels = [\"cpu.matmul_portable\"], "
      "fallback_parameters = [\"{gated = true}\"]";
  EXPECT_EQ(code_of(gated + "}"), ErrorCode::kIncompatible);
  EXPECT_EQ(code_of(gated + ", gate_kernel = cuda.module}"), ErrorCode::kIncompatible);
  EXPECT_EQ(code_of(gated + ", gate_kernel = cuda.module, rows_at_once = 65}"), ErrorCode::kIncompatible);
  EXPECT_EQ(code_of(gated + ", gate_kernel = cuda.module, rows_at_once = 64}"), ErrorCode{});
  EXPECT_EQ(code_of("nonsense"), ErrorCode::kIncompatible);
}

}  // namespace
}  // namespace ingot
