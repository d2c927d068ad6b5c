// Attention over a paged cache on the CPU. What the tactic decides travels in the parameters.
#pragma once

#include <memory>
#include <string_view>
#include <tuple>

#include "base/fields.h"
#include "kernels/cpu/attention_blocks.h"
#include "kernels/cpu/handover.h"
#include "kernels/kernel.h"

namespace ingot {

struct AttentionParameters : GivesTiles {
  int64_t heads = 1;
  float scale = 1;
  float soft_cap = 0;
  int64_t window = 0;
  int threads = 1;             // scratch is there for so many; a larger pool is used in part
  int64_t partial_floats = 0;  // scratch for the results of parts of long contexts; without it nothing is split
  static constexpr auto fields() {
    using P = AttentionParameters;
    return std::tuple_cat(std::tuple{field("heads", &P::heads), field("scale", &P::scale),
                                     field("soft_cap", &P::soft_cap), field("window", &P::window),
                                     field("threads", &P::threads), field("partial_floats", &P::partial_floats)},
                          GivesTiles::fields());
  }
};

// What a launch needs with up to `sequences` sequences.
int64_t attention_scratch_bytes(const AttentionParameters& parameters, CpuLevel level, int64_t head_size,
                                int64_t v_head_size, int64_t sequences);
// Enough partial_floats to split the contexts of a step that fill `positions` positions of the cache.
int64_t attention_partial_floats(CpuLevel level, int64_t rows, int64_t kv_heads, int64_t v_head_size, int64_t positions,
                                 int64_t sequences);

// Whether the results of a step of at most so many tokens can be handed over in tiles with blocks of so many columns.
bool attention_gives_tiles(CpuLevel level, int64_t tokens, int64_t heads, int64_t v_head_size, int64_t block);

std::unique_ptr<Kernel> make_attention(std::string_view parameters, CpuLevel level);

template <CpuLevel level>
std::unique_ptr<Kernel> make_attention(std::string_view parameters) {
  return make_attention(parameters, level);
}

}  // namespace ingot
