#include "models/model_list.h"

namespace ingot {

std::span<const ModelEntry> model_list() {
  using namespace models;
  static const ModelEntry list[] = {llama(), mistral(), qwen2(),     qwen3(), gemma2(),  gemma3(),
                                    phi3(),  mixtral(), qwen3_moe(), gpt2(),  gpt_neox()};
  return list;
}

}  // namespace ingot
