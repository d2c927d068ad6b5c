// What the tactic sources of the op matmul for NVIDIA GPUs share.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ops/matmul.h"
#include "tactics/cuda/cuda_source.h"

namespace ingot {

struct MatmulProblem {
  int64_t rows, n, k;  // n: rows of w; a gated one has half as many outputs
  DType x, w, y;
  ActivationFunction function;
  bool gated;
  int bias = 0, residual = 0, output;  // places among the problem's inputs and outputs; 0: there is none
  DType bias_dtype = DType::kF32, residual_dtype = DType::kF32;

  explicit MatmulProblem(const Problem& problem);
  bool same_16_bit() const { return x == w && size_of(w) == 2; }
};

// Why no source here solves the problem, or "".
std::string unless_cuda_matmul(const Problem& problem, const Target& target);

// `file` with the defines that all device code of matmuls takes.
DeviceModule matmul_module(std::string_view file, const MatmulProblem& problem, const Target& target);
// A launch with the arguments x and w as given, then bias, residual, y and rows.
ModuleLaunch matmul_launch(std::string_view function, const MatmulProblem& problem, std::string_view x = "buf 0",
                           std::string_view w = "buf 1");
// Adds the step that runs `launch` over all inputs and outputs.
void add_matmul_step(CompiledTactic& tactic, const DeviceModule& module, ModuleLaunch launch,
                     const MatmulProblem& problem);

// The shared memory that one block may have on the target's architecture.
int64_t shared_bytes_limit(const Target& target);
// Whether the architecture has copies that mbarriers count (compute capability 9.0 and later).
bool has_bulk_copies(const Target& target);

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace ingot
