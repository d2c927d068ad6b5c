// The text form of networks (docs/ir.md): one statement per line, types always written and checked while parsing,
// labels as comments.
//
//   dims tokens = 1..8192, sequences = 1..64..256        min..max, or min..opt..max
//   group full {page_size = 16}
//   %ids: i32[tokens] = input ids
//   %layers.0.k: bf16[pool_pages.full, 8, 16, 128] = state layers.0.k {group = full}
//   %norm: f32[4096] = weight norm {recipe = "cast(model.norm.weight, f32)"}   without {…}: the tensor of that name
//   %0: f32[tokens, 64], %1: f32[tokens, 64] = add_rms_norm(%x, %y, %norm) {epsilon = 1e-05}  # layers.0.norm
//   output logits = %l
//
// Value names belong to the text alone: the printer calls leaves by their names and results of ops by number. Origins
// are not part of the text.
#pragma once

#include <string>
#include <string_view>

#include "ir/network.h"

namespace ingot {

// print(parse_network(print(n))) == print(n), character for character.
std::string print(const Network& network);

// Parses and infers; does not verify (ir/verify.h). The Error of a mistake says line and column. Safe on any bytes.
Network parse_network(std::string_view text);

// What the printer calls a value.
std::string print_value_name(const Network& network, Value value);

}  // namespace ingot
