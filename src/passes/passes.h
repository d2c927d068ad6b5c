// The passes, a file each but for twins; pass_list.cpp says in which order and why.
#pragma once

#include "passes/pass.h"

namespace ingot {

// One form for what can be written in several: operands of add and multiply in the order of their definition, one scale
// for two, no op that changes nothing.
Network canonicalize(Network, const PassContext&);

// Ops on weights alone become part of the weight's recipe.
Network fold_constants(Network, const PassContext&);

// The same op on the same inputs is done once; weights with the same recipe are stored once.
Network common_subexpressions(Network, const PassContext&);

// gather_rows moves before the ops that treat every row alone and that nothing else needs all rows of.
Network hoist_gather_rows(Network, const PassContext&);

// scale before or after matmul becomes part of the weight, where that rounds nothing that was not rounded before: f32
// weights, and bf16 weights with a power of two.
Network fold_scale_into_weight(Network, const PassContext&);

// add of a weight vector to a matmul becomes its bias.
Network fold_bias(Network, const PassContext&);

// function(gate) * up in one op; and without slices when gate and up are the halves of one value.
Network fuse_gated_activation(Network, const PassContext&);

// The matmuls behind the gate and the up of a gated activation become one.
Network merge_gate_up(Network, const PassContext&);

// The matmuls behind the q, k and v of an attention become one, and slices.
Network merge_qkv(Network, const PassContext&);

// Slices of a merged projection, norms of the heads, rotation and both kv writes in front of an attention in one op.
Network fuse_rope_kv_write(Network, const PassContext&);

// matmul of x as f32, where x is bf16 or f16 and the weight narrower than f32, becomes a wide matmul of x itself: the
// same sums of the same products, without a second form of x.
Network fuse_cast_matmul(Network, const PassContext&);

// rms_norm or layer_norm of a sum, together with the sum.
Network fuse_add_norm(Network, const PassContext&);

// A gated activation of one matmul's halves becomes part of that matmul.
Network fuse_matmul_gate(Network, const PassContext&);

// An activation becomes the function of the matmul before it.
Network fuse_matmul_activation(Network, const PassContext&);

// add after matmul becomes its residual.
Network fuse_matmul_residual(Network, const PassContext&);

// Elementwise ops of which each is the only reader of the one before become one pointwise_chain.
Network fuse_pointwise(Network, const PassContext&);

// Ops and weights that no output needs go.
Network dead_code(Network, const PassContext&);

}  // namespace ingot
