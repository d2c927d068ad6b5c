// The order of the passes, with the reason for each place.
#include <array>

#include "passes/passes.h"

namespace ingot {

namespace {
constexpr std::array kPasses = {
    // First, so that every later pattern has one form to look for.
    Pass{"canonicalize", canonicalize},
    // Before all rules that ask for weights: a cast or scaled weight is a weight again.
    Pass{"fold_constants", fold_constants},
    // Before the merges, which look for readers of one value.
    Pass{"common_subexpressions", common_subexpressions},
    // After common_subexpressions, which leaves one value where several are gathered. Before all fusions: it brings the
    // last sum of a model to the norm behind it, and needs no form of a fused op.
    Pass{"hoist_gather_rows", hoist_gather_rows},
    // Before the merges: afterwards a scale would concern a part of a weight.
    Pass{"fold_scale_into_weight", fold_scale_into_weight},
    // The same; and an activation or residual can join a matmul only after its bias.
    Pass{"fold_bias", fold_bias},
    // Before fuse_matmul_activation, which would take the activation away from its product.
    Pass{"fuse_gated_activation", fuse_gated_activation},
    // Merging is right only when somebody reads the parts together, so the reader is fused before.
    Pass{"merge_gate_up", merge_gate_up},
    // Makes the slices of one projection that fuse_rope_kv_write looks for.
    Pass{"merge_qkv", merge_qkv},
    Pass{"fuse_rope_kv_write", fuse_rope_kv_write},
    // After fold_scale_into_weight, which may bring a cast next to a matmul, and after the merges, which look for
    // projections of one value: of two that read x, one as f32, neither could join the other.
    Pass{"fuse_cast_matmul", fuse_cast_matmul},
    // Before fuse_matmul_residual: both want the residual sum. The norm must run over whole rows anyway and takes the
    // sum from whatever made its operands (a matmul, another norm, a sum over ranks), the matmul only its own.
    Pass{"fuse_add_norm", fuse_add_norm},
    // After merge_gate_up, which makes the one matmul.
    Pass{"fuse_matmul_gate", fuse_matmul_gate},
    // Before fuse_matmul_residual: a residual is added after the function.
    Pass{"fuse_matmul_activation", fuse_matmul_activation},
    // Takes the sums that no norm wanted: the inner one of parallel residuals, those behind norms.
    Pass{"fuse_matmul_residual", fuse_matmul_residual},
    // After all fusions that look for single elementwise ops: it takes what they left.
    Pass{"fuse_pointwise", fuse_pointwise},
    // Last: every pass may leave something unused.
    Pass{"dead_code", dead_code},
};
}  // namespace

std::span<const Pass> pass_list() { return kPasses; }

}  // namespace ingot
