// Every tactic source, best guess for a build without measuring (-O0) first.
#include "tactics/tactic.h"

#include "tactics/cpu/attention.h"
#include "tactics/cpu/expert_mlp.h"
#include "tactics/cpu/matmul.h"
#include "tactics/cpu/op_source.h"
#include "tactics/cuda/attention.h"
#include "tactics/cuda/expert_mlp.h"
#include "tactics/cuda/gemm_sm90.h"
#include "tactics/cuda/matmul.h"
#include "tactics/cuda/norm.h"
#include "tactics/cuda/pointwise.h"
#include "tactics/cuda/rope.h"
#include "tactics/cuda/route.h"
#include "tactics/cuda/sample.h"
#include "tactics/library/cublaslt_matmul.h"

namespace ingot {

std::span<const TacticSource* const> tactic_list() {
  static const std::vector<const TacticSource*> list = {
      matmul_amx_source(),
      matmul_avx512_source(),
      matmul_avx512_bf16_source(),
      matmul_avx2_source(),
      matmul_portable_source(),
      expert_mlp_avx512_source(),
      expert_mlp_avx2_source(),
      expert_mlp_portable_source(),
      attention_source(CpuLevel::kAmx),
      attention_source(CpuLevel::kAvx512),
      attention_source(CpuLevel::kAvx2),
      attention_source(CpuLevel::kPortable),
#ifndef INGOT_WITHOUT_CUDA
      cuda_attention_sm90_source(),
      cuda_attention_mma_source(),
      cuda_attention_source(),
#endif
      op_source<RmsNorm, CpuLevel::kAvx512>(),
      op_source<RmsNorm, CpuLevel::kAvx2>(),
      op_source<RmsNorm, CpuLevel::kPortable>(),
      op_source<LayerNorm, CpuLevel::kAvx512>(),
      op_source<LayerNorm, CpuLevel::kAvx2>(),
      op_source<LayerNorm, CpuLevel::kPortable>(),
      op_source<AddRmsNorm, CpuLevel::kAvx512>(),
      op_source<AddRmsNorm, CpuLevel::kAvx2>(),
      op_source<AddRmsNorm, CpuLevel::kPortable>(),
      op_source<AddLayerNorm, CpuLevel::kAvx512>(),
      op_source<AddLayerNorm, CpuLevel::kAvx2>(),
      op_source<AddLayerNorm, CpuLevel::kPortable>(),
      op_source<Add, CpuLevel::kAvx512>(),
      op_source<Add, CpuLevel::kAvx2>(),
      op_source<Add, CpuLevel::kPortable>(),
      op_source<Multiply, CpuLevel::kAvx512>(),
      op_source<Multiply, CpuLevel::kAvx2>(),
      op_source<Multiply, CpuLevel::kPortable>(),
      op_source<Scale, CpuLevel::kAvx512>(),
      op_source<Scale, CpuLevel::kAvx2>(),
      op_source<Scale, CpuLevel::kPortable>(),
      op_source<SoftCap, CpuLevel::kAvx512>(),
      op_source<SoftCap, CpuLevel::kAvx2>(),
      op_source<SoftCap, CpuLevel::kPortable>(),
      op_source<Activation, CpuLevel::kAvx512>(),
      op_source<Activation, CpuLevel::kAvx2>(),
      op_source<Activation, CpuLevel::kPortable>(),
      op_source<GatedActivation, CpuLevel::kAvx512>(),
      op_source<GatedActivation, CpuLevel::kAvx2>(),
      op_source<GatedActivation, CpuLevel::kPortable>(),
      op_source<Cast, CpuLevel::kAvx512>(),
      op_source<Cast, CpuLevel::kAvx2>(),
      op_source<Cast, CpuLevel::kPortable>(),
      op_source<PointwiseChain, CpuLevel::kAvx512>(),
      op_source<PointwiseChain, CpuLevel::kAvx2>(),
      op_source<PointwiseChain, CpuLevel::kPortable>(),
      op_source<Embedding, CpuLevel::kAvx512>(),
      op_source<Embedding, CpuLevel::kAvx2>(),
      op_source<Embedding, CpuLevel::kPortable>(),
      op_source<Rope, CpuLevel::kAvx512>(),
      op_source<Rope, CpuLevel::kAvx2>(),
      op_source<Rope, CpuLevel::kPortable>(),
      op_source<KvWrite, CpuLevel::kAvx512>(),
      op_source<KvWrite, CpuLevel::kAvx2>(),
      op_source<KvWrite, CpuLevel::kPortable>(),
      op_source<RopeKvWrite, CpuLevel::kAvx512>(),
      op_source<RopeKvWrite, CpuLevel::kAvx2>(),
      op_source<RopeKvWrite, CpuLevel::kPortable>(),
      op_source<GatherRows>(),
      op_source<Sample>(),
      op_source<NextIds>(),
      op_source<Slice>(),
      op_source<RopeAngles>(),
      op_source<Route>(),
#ifndef INGOT_WITHOUT_CUDA
      cuda_gemv_source(),
      cuda_gemv_direct_source(),
      cuda_skinny_source(),
      gemm_sm90_source(),
      cuda_matmul_mma_source(),
      cuda_matmul_source(),
      cuda_norm_source<RmsNorm>(),
      cuda_norm_source<LayerNorm>(),
      cuda_norm_source<AddRmsNorm>(),
      cuda_norm_source<AddLayerNorm>(),
      cuda_pointwise_source<Add>(),
      cuda_pointwise_source<Multiply>(),
      cuda_pointwise_source<Scale>(),
      cuda_pointwise_source<SoftCap>(),
      cuda_pointwise_source<Activation>(),
      cuda_pointwise_source<GatedActivation>(),
      cuda_pointwise_source<Cast>(),
      cuda_pointwise_source<PointwiseChain>(),
      cuda_pointwise_source<Embedding>(),
      cuda_pointwise_source<GatherRows>(),
      cuda_pointwise_source<Slice>(),
      cuda_rope_source<Rope>(),
      cuda_rope_source<KvWrite>(),
      cuda_rope_source<RopeKvWrite>(),
      cuda_rope_angles_source(),
      cuda_route_source(),
      cuda_sample_source(),
      cuda_next_ids_source(),
      cuda_expert_mlp_rows_source(),
      cuda_expert_mlp_tiles_source(),
      cublaslt_matmul_source(),  // last: its steps carry one of the others as their fallback
#endif
  };
  return list;
}

}  // namespace ingot
