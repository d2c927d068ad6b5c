// The sources of attention on NVIDIA GPUs. All of them share out decodes over the GPU (attention_parts.cuh); they
// differ in how they make sequences with several tokens.
#pragma once

#include "tactics/tactic.h"

namespace ingot {

const TacticSource* cuda_attention_sm90_source();  // bf16 and f16 states, by wgmma
const TacticSource* cuda_attention_mma_source();   // bf16 and f16 states, by mma.sync
const TacticSource* cuda_attention_source();       // everything, in f32 arithmetic

}  // namespace ingot
