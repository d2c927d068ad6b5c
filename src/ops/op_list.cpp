// Every op kind.
#include <array>

#include "ops/attention.h"
#include "ops/experts.h"
#include "ops/indexing.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/op.h"
#include "ops/pointwise.h"
#include "ops/pointwise_chain.h"
#include "ops/rope.h"
#include "ops/sample.h"

namespace ingot {

namespace {
constexpr std::array kOps = {
    op_entry<Matmul>(),         op_entry<RmsNorm>(),    op_entry<LayerNorm>(),       op_entry<AddRmsNorm>(),
    op_entry<AddLayerNorm>(),   op_entry<Add>(),        op_entry<Multiply>(),        op_entry<Scale>(),
    op_entry<SoftCap>(),        op_entry<Activation>(), op_entry<GatedActivation>(), op_entry<Cast>(),
    op_entry<PointwiseChain>(), op_entry<Embedding>(),  op_entry<GatherRows>(),      op_entry<Slice>(),
    op_entry<RopeAngles>(),     op_entry<Rope>(),       op_entry<KvWrite>(),         op_entry<Attention>(),
    op_entry<RopeKvWrite>(),    op_entry<Route>(),      op_entry<ExpertMlp>(),       op_entry<Sample>(),
    op_entry<NextIds>(),
};
}  // namespace

std::span<const OpEntry> op_list() { return kOps; }

}  // namespace ingot
