// The architectures, one function per file.
#pragma once

#include "models/model.h"

namespace ingot::models {

ModelEntry gemma2();
ModelEntry gemma3();
ModelEntry gpt2();
ModelEntry gpt_neox();
ModelEntry llama();
ModelEntry mistral();
ModelEntry mixtral();
ModelEntry phi3();
ModelEntry qwen2();
ModelEntry qwen3();
ModelEntry qwen3_moe();

}  // namespace ingot::models
