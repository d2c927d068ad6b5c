// Cases that were computed by the `tokenizers` library: tests/data/tokenizers (always present) and the larger
// collection beside the checkout (may be absent).
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/mapped_file.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace ingot {

inline Path oracle_data() { return Path(INGOT_SOURCE_DIR) / "tests/data/tokenizers"; }
inline Path shared_data() { return Path(INGOT_SOURCE_DIR) / "../shared"; }

inline std::vector<int32_t> read_ids(const Json& json) {
  std::vector<int32_t> ids;
  for (const Json& id : json.as_array()) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

inline std::string stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip_special_tokens) {
  Detokenizer detokenizer(tokenizer, skip_special_tokens);
  std::string text;
  for (int32_t id : ids) text += detokenizer.push(id);
  return text + detokenizer.finish();
}

}  // namespace ingot
