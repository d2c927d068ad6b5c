// The launcher of matrix products by cuBLASLt: "cuda.cublaslt_matmul" steps.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "kernels/kernel.h"
#include "ops/matmul.h"

namespace ingot {

// One way to run a matmul: the configuration of a tactic.
struct CublasltChoice {
  // One of the library's algorithms, in its own words as hexadecimal digits: means something to the same version alone.
  // Empty: whatever its heuristics recommend for the actual number of rows.
  std::string algorithm;
  int64_t workspace_bytes = 0;
  int64_t version = 0;  // of the library: 130100 for 13.1.0
  static constexpr auto fields() {
    return std::tuple{field("algorithm", &CublasltChoice::algorithm),
                      field("workspace_bytes", &CublasltChoice::workspace_bytes),
                      field("version", &CublasltChoice::version)};
  }
};

// The steps that do the same without the library, each with all arguments of this one.
struct CublasltFallback {
  std::vector<std::string> fallback_kernels, fallback_parameters;
  static constexpr auto fields() {
    return std::tuple{field("fallback_kernels", &CublasltFallback::fallback_kernels),
                      field("fallback_parameters", &CublasltFallback::fallback_parameters)};
  }
};

// The step that makes the result of a gated matmul: from f32 products [rows, n], which are its first argument, y.
struct CublasltGate {
  std::string gate_kernel, gate_parameters;
  int64_t rows_at_once = 0;  // the products of so many rows have a place in the scratch memory; a multiple of 64
  static constexpr auto fields() {
    return std::tuple{field("gate_kernel", &CublasltGate::gate_kernel),
                      field("gate_parameters", &CublasltGate::gate_parameters),
                      field("rows_at_once", &CublasltGate::rows_at_once)};
  }
};

// The parameters of the kernel.
struct CublasltMatmul : Matmul, CublasltChoice, CublasltFallback, CublasltGate {
  static constexpr auto fields() {
    return std::tuple_cat(Matmul::fields(), CublasltChoice::fields(), CublasltFallback::fields(),
                          CublasltGate::fields());
  }
};

// Where the products of a gated matmul begin in the scratch memory: behind the library's workspace.
constexpr int64_t products_offset(int64_t workspace_bytes) { return (workspace_bytes + 255) / 256 * 256; }

// Arguments: x, w, bias and residual if the op has them, y; all row major, x and w of one dtype, the others of y's; the
// bias of a gated one is f32. Any number of rows: an algorithm that the library refuses for some is replaced by what
// its heuristics recommend for them. When this machine has no cuBLASLt, or one of another version, the kernel runs the
// fallback instead.
std::unique_ptr<Kernel> make_cublaslt_matmul(std::string_view parameters, const KernelSupport& support);

}  // namespace ingot
