// The part of cuBLASLt that is used here: own declarations of its binary interface (version 13), and the library opened
// at run time. Names follow the library's, in this project's spelling.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/fields.h"
#include "device/cuda/device.h"
#include "ops/matmul.h"
#include "tensor/dtype.h"

namespace ingot::cublaslt {

using Handle = struct Context*;
using Status = int;  // 0: success
constexpr Status kNotSupported = 15;

// Plain data whose meaning is the library's; filled in place, never freed.
struct Layout {
  uint64_t data[8];
};
struct Operation {
  uint64_t data[32];
};
struct Preference {
  uint64_t data[8];
};
// May be stored and used again with the same version of the library.
struct Algorithm {
  uint64_t data[8];
  bool operator==(const Algorithm&) const = default;
};
struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};

enum DataType : int { kFloat32 = 0, kFloat16 = 2, kBFloat16 = 14 };
enum ComputeType : int { kCompute32F = 68 };  // f32 products and sums of f32 operands: never tf32
enum Transpose : int { kTranspose = 1 };
enum OperationAttribute : int { kTransposeA = 3, kEpilogue = 7, kBiasPointer = 8 };
enum Epilogue : uint32_t { kPlain = 1, kRelu = 2, kBias = 4, kGelu = 32 };  // kRelu, kGelu and kBias combine
enum PreferenceAttribute : int {
  kMaxWorkspaceBytes = 1,
  kReductionSchemes = 3,
  kAlignmentA = 5,
  kAlignmentB = 6,
  kAlignmentC = 7,
  kAlignmentD = 8
};
// How the parts of a sum that was split along k are added up: through memory of the compute type; not at all.
enum ReductionScheme : uint32_t { kNoReduction = 0, kInComputeType = 2 };

// Member, the library's symbol, parameters. Layouts are a, b, c, d.
#define INGOT_CUBLASLT_FUNCTIONS(X)                                                                                   \
  X(size_t, get_version, cublasLtGetVersion)                                                                          \
  X(const char*, status_name, cublasLtGetStatusName, Status)                                                          \
  X(Status, create, cublasLtCreate, Handle*)                                                                          \
  X(Status, layout_init, cublasLtMatrixLayoutInit_internal, Layout*, size_t, DataType, uint64_t, uint64_t, int64_t)   \
  X(Status, operation_init, cublasLtMatmulDescInit_internal, Operation*, size_t, ComputeType, DataType)               \
  X(Status, operation_set, cublasLtMatmulDescSetAttribute, Operation*, OperationAttribute, const void*, size_t)       \
  X(Status, preference_init, cublasLtMatmulPreferenceInit_internal, Preference*, size_t)                              \
  X(Status, preference_set, cublasLtMatmulPreferenceSetAttribute, Preference*, PreferenceAttribute, const void*,      \
    size_t)                                                                                                           \
  X(Status, heuristic, cublasLtMatmulAlgoGetHeuristic, Handle, Operation*, Layout*, Layout*, Layout*, Layout*,        \
    Preference*, int, HeuristicResult*, int*)                                                                         \
  X(Status, check, cublasLtMatmulAlgoCheck, Handle, Operation*, Layout*, Layout*, Layout*, Layout*, const Algorithm*, \
    HeuristicResult*)                                                                                                 \
  X(Status, matmul, cublasLtMatmul, Handle, Operation*, const void*, const void*, Layout*, const void*, Layout*,      \
    const void*, const void*, Layout*, void*, Layout*, const Algorithm*, void*, size_t, cuda::CUstream)

// The functions of the library, all of them there when ok().
struct Library {
#define INGOT_DECLARE(result, member, symbol, ...) result (*member)(__VA_ARGS__) = nullptr;
  INGOT_CUBLASLT_FUNCTIONS(INGOT_DECLARE)
#undef INGOT_DECLARE

  std::string missing;  // why it cannot be used, or ""
  int64_t version = 0;  // 130100 for 13.1.0
  bool ok() const { return missing.empty(); }

  // Opened on first use, once per process. Safe to call from several threads.
  static const Library& get();
};
// The library at work on one device, shared by all that use it there.
struct Connection {
  const Library& library;
  Handle handle = nullptr;

  // Opened on first use, once per device, and kept. Throws an Error with kIncompatible when the library is missing or
  // does not work with the device.
  static const Connection& open(const cuda::DevicePtr& device);
};

// y = function(x · wᵀ + bias) + residual at a size. Row-major w [n, k], x [rows, k] and y [rows, n] are the library's
// column-major A (transposed), B and D; the residual is its C.
struct Product {
  Matmul op;
  int64_t rows = 0, n = 0, k = 0;
  DType operands = DType::kBF16;  // of x and w
  DType result = DType::kBF16;    // of y, the bias and the residual
  bool operator==(const Product& other) const {
    return equal_fields(op, other.op) && rows == other.rows && n == other.n && k == other.k &&
           operands == other.operands && result == other.result;
  }
};

// A product in the library's words. Its address may not change.
class Descriptors {
 public:
  // Throws an Error with kRuntime when the library refuses.
  Descriptors(const Connection& connection, const Product& product, const void* bias);
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;

  // Up to `count` algorithms, best guess first, that need at most `workspace_bytes` and addresses that are multiples of
  // 64. None when the library cannot compute the product.
  std::vector<HeuristicResult> heuristics(int64_t workspace_bytes, int count);
  // Whether `algorithm` can compute the product with so much workspace.
  bool accepts(const Algorithm& algorithm, int64_t workspace_bytes);

  struct Buffers {
    const void *x, *w, *residual;
    void *y, *workspace;
  };
  void run(const Algorithm& algorithm, const Buffers& buffers, int64_t workspace_bytes, cuda::CUstream stream);

 private:
  void check(Status status, std::string_view call) const;

  const Connection& connection_;
  bool residual_;
  ReductionScheme reductions_;
  Operation operation_;
  Layout w_, x_, y_;
};

// An algorithm as hexadecimal digits, without the zero words at its end; and back. Throws an Error with kIncompatible
// for anything else.
std::string print_algorithm(const Algorithm& algorithm);
Algorithm parse_algorithm(std::string_view text);

}  // namespace ingot::cublaslt
