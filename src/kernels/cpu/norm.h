// The CPU kernels of ops/norm.h. Their last result may be handed over in tiles.
#pragma once

#include "kernels/cpu/handover.h"
#include "kernels/cpu/vector_functions.h"
#include "kernels/kernel.h"
#include "ops/norm.h"

namespace ingot {

// The largest row that is handed over in tiles, or whose sum goes past the caches; threads have it on their stacks.
constexpr int64_t kMostTiledNorm = 16384;

template <class Op>
struct NormParameters : Op, GivesTiles {
  static constexpr auto fields() { return std::tuple_cat(Op::fields(), GivesTiles::fields()); }
};

void run(const NormParameters<RmsNorm>&, const VectorFunctions&, const Launch&);
void run(const NormParameters<LayerNorm>&, const VectorFunctions&, const Launch&);
void run(const NormParameters<AddRmsNorm>&, const VectorFunctions&, const Launch&);
void run(const NormParameters<AddLayerNorm>&, const VectorFunctions&, const Launch&);

}  // namespace ingot
