// The ids that end a text, as Hugging Face configurations name them.
#pragma once

#include <cstdint>
#include <vector>

#include "base/json.h"

namespace ingot {

// "eos_token_id" of a generation_config.json or config.json: one id or a list; empty without it. Throws an Error that
// names the key when it holds anything else.
std::vector<int32_t> read_eos_ids(const Json& config);

}  // namespace ingot
