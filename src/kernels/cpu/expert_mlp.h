// The CPU kernels of ExpertMlp (ops/experts.h): tokens are grouped by expert, and every chosen expert runs its two
// products over its group with the streaming code of the matmul kernels, so that each chosen weight is read once a
// step.
#pragma once

#include <memory>
#include <tuple>

#include "kernels/kernel.h"
#include "ops/experts.h"

namespace ingot {

// Parameters: "{function = silu, layout = panel_16, prefetch = 1024}". Both weights have the layout.
struct ExpertMlpParameters : ExpertMlp {
  std::string layout;
  int64_t prefetch = 1024;
  static constexpr auto fields() {
    return std::tuple_cat(ExpertMlp::fields(), std::tuple{field("layout", &ExpertMlpParameters::layout),
                                                          field("prefetch", &ExpertMlpParameters::prefetch)});
  }
};

// What one call works on.
struct ExpertMlpSizes {
  int64_t tokens = 0, hidden = 0, top_k = 0, experts = 0, inner = 0;
};

// Enough for these tokens and every smaller number.
int64_t expert_mlp_scratch_bytes(const ExpertMlpSizes& sizes);

// Arguments: x, ids, weights, gate_up, down, y.
std::unique_ptr<Kernel> make_expert_mlp_portable(std::string_view parameters);
std::unique_ptr<Kernel> make_expert_mlp_avx2(std::string_view parameters);
std::unique_ptr<Kernel> make_expert_mlp_avx512(std::string_view parameters);

}  // namespace ingot
