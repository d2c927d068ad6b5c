// Every kernel that an engine's steps may name. One line each; the name says device and op.
#include "kernels/kernel.h"

#include <vector>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/expert_mlp.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/op_kernel.h"
#include "kernels/cpu/pointwise_chain.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/module.h"

namespace ingot {

namespace {
const std::vector<KernelEntry>& entries() {
  static const std::vector<KernelEntry> list = {
      {"cuda.module", nullptr, make_module_kernel},
      {"cuda.cublaslt", nullptr, make_cublaslt_matmul},
      {"cpu.matmul_amx", make_matmul_amx},
      {"cpu.matmul_avx512", make_matmul_avx512},
      {"cpu.matmul_avx512_bf16", make_matmul_avx512_bf16},
      {"cpu.matmul_avx2", make_matmul_avx2},
      {"cpu.matmul_portable", make_matmul_portable},
      {"cpu.expert_mlp_avx512", make_expert_mlp_avx512},
      {"cpu.expert_mlp_avx2", make_expert_mlp_avx2},
      {"cpu.expert_mlp_portable", make_expert_mlp_portable},
      {"cpu.attention_amx", make_attention<CpuLevel::kAmx>},
      {"cpu.attention_avx512", make_attention<CpuLevel::kAvx512>},
      {"cpu.attention_avx2", make_attention<CpuLevel::kAvx2>},
      {"cpu.attention_portable", make_attention<CpuLevel::kPortable>},
      {"cpu.rms_norm_avx512", make_op_kernel<NormParameters<RmsNorm>, CpuLevel::kAvx512>},
      {"cpu.rms_norm_avx2", make_op_kernel<NormParameters<RmsNorm>, CpuLevel::kAvx2>},
      {"cpu.rms_norm_portable", make_op_kernel<NormParameters<RmsNorm>, CpuLevel::kPortable>},
      {"cpu.layer_norm_avx512", make_op_kernel<NormParameters<LayerNorm>, CpuLevel::kAvx512>},
      {"cpu.layer_norm_avx2", make_op_kernel<NormParameters<LayerNorm>, CpuLevel::kAvx2>},
      {"cpu.layer_norm_portable", make_op_kernel<NormParameters<LayerNorm>, CpuLevel::kPortable>},
      {"cpu.add_rms_norm_avx512", make_op_kernel<NormParameters<AddRmsNorm>, CpuLevel::kAvx512>},
      {"cpu.add_rms_norm_avx2", make_op_kernel<NormParameters<AddRmsNorm>, CpuLevel::kAvx2>},
      {"cpu.add_rms_norm_portable", make_op_kernel<NormParameters<AddRmsNorm>, CpuLevel::kPortable>},
      {"cpu.add_layer_norm_avx512", make_op_kernel<NormParameters<AddLayerNorm>, CpuLevel::kAvx512>},
      {"cpu.add_layer_norm_avx2", make_op_kernel<NormParameters<AddLayerNorm>, CpuLevel::kAvx2>},
      {"cpu.add_layer_norm_portable", make_op_kernel<NormParameters<AddLayerNorm>, CpuLevel::kPortable>},
      {"cpu.add_avx512", make_op_kernel<Add, CpuLevel::kAvx512>},
      {"cpu.add_avx2", make_op_kernel<Add, CpuLevel::kAvx2>},
      {"cpu.add_portable", make_op_kernel<Add, CpuLevel::kPortable>},
      {"cpu.multiply_avx512", make_op_kernel<Multiply, CpuLevel::kAvx512>},
      {"cpu.multiply_avx2", make_op_kernel<Multiply, CpuLevel::kAvx2>},
      {"cpu.multiply_portable", make_op_kernel<Multiply, CpuLevel::kPortable>},
      {"cpu.scale_avx512", make_op_kernel<Scale, CpuLevel::kAvx512>},
      {"cpu.scale_avx2", make_op_kernel<Scale, CpuLevel::kAvx2>},
      {"cpu.scale_portable", make_op_kernel<Scale, CpuLevel::kPortable>},
      {"cpu.soft_cap_avx512", make_op_kernel<SoftCap, CpuLevel::kAvx512>},
      {"cpu.soft_cap_avx2", make_op_kernel<SoftCap, CpuLevel::kAvx2>},
      {"cpu.soft_cap_portable", make_op_kernel<SoftCap, CpuLevel::kPortable>},
      {"cpu.activation_avx512", make_op_kernel<Activation, CpuLevel::kAvx512>},
      {"cpu.activation_avx2", make_op_kernel<Activation, CpuLevel::kAvx2>},
      {"cpu.activation_portable", make_op_kernel<Activation, CpuLevel::kPortable>},
      {"cpu.gated_activation_avx512", make_op_kernel<GatedActivation, CpuLevel::kAvx512>},
      {"cpu.gated_activation_avx2", make_op_kernel<GatedActivation, CpuLevel::kAvx2>},
      {"cpu.gated_activation_portable", make_op_kernel<GatedActivation, CpuLevel::kPortable>},
      {"cpu.cast_avx512", make_op_kernel<Cast, CpuLevel::kAvx512>},
      {"cpu.cast_avx2", make_op_kernel<Cast, CpuLevel::kAvx2>},
      {"cpu.cast_portable", make_op_kernel<Cast, CpuLevel::kPortable>},
      {"cpu.pointwise_chain_avx512", make_pointwise_chain<CpuLevel::kAvx512>},
      {"cpu.pointwise_chain_avx2", make_pointwise_chain<CpuLevel::kAvx2>},
      {"cpu.pointwise_chain_portable", make_pointwise_chain<CpuLevel::kPortable>},
      {"cpu.embedding_avx512", make_op_kernel<Embedding, CpuLevel::kAvx512>},
      {"cpu.embedding_avx2", make_op_kernel<Embedding, CpuLevel::kAvx2>},
      {"cpu.embedding_portable", make_op_kernel<Embedding, CpuLevel::kPortable>},
      {"cpu.rope_avx512", make_op_kernel<Rope, CpuLevel::kAvx512>},
      {"cpu.rope_avx2", make_op_kernel<Rope, CpuLevel::kAvx2>},
      {"cpu.rope_portable", make_op_kernel<Rope, CpuLevel::kPortable>},
      {"cpu.kv_write_avx512", make_op_kernel<KvWrite, CpuLevel::kAvx512>},
      {"cpu.kv_write_avx2", make_op_kernel<KvWrite, CpuLevel::kAvx2>},
      {"cpu.kv_write_portable", make_op_kernel<KvWrite, CpuLevel::kPortable>},
      {"cpu.rope_kv_write_avx512", make_op_kernel<RopeKvWrite, CpuLevel::kAvx512>},
      {"cpu.rope_kv_write_avx2", make_op_kernel<RopeKvWrite, CpuLevel::kAvx2>},
      {"cpu.rope_kv_write_portable", make_op_kernel<RopeKvWrite, CpuLevel::kPortable>},
      {"cpu.sample", make_op_kernel<Sample, CpuLevel::kPortable>},
      {"cpu.next_ids", make_op_kernel<NextIds, CpuLevel::kPortable>},
      {"cpu.gather_rows", make_op_kernel<GatherRows, CpuLevel::kPortable>},
      {"cpu.slice", make_op_kernel<Slice, CpuLevel::kPortable>},
      {"cpu.rope_angles", make_op_kernel<RopeAngles, CpuLevel::kPortable>},
      {"cpu.route", make_op_kernel<Route, CpuLevel::kPortable>},
  };
  return list;
}
}  // namespace

std::span<const KernelEntry> kernel_list() { return entries(); }

}  // namespace ingot
