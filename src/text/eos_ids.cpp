#include "text/eos_ids.h"

#include "base/error.h"
#include "base/fields.h"

namespace ingot {

std::vector<int32_t> read_eos_ids(const Json& config) {
  const Json* value = config.is_object() ? config.find_set("eos_token_id") : nullptr;
  if (!value) return {};
  Scope scope("key \"eos_token_id\"");
  std::vector<int32_t> ids;
  if (value->is_array())
    value_from_json(*value, ids);
  else
    value_from_json(*value, ids.emplace_back());
  return ids;
}

}  // namespace ingot
