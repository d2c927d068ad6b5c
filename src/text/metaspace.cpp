#include "text/metaspace.h"

#include "base/error.h"
#include "text/unicode.h"

namespace ingot {

MetaspaceOptions parse_metaspace(const Json& json) {
  MetaspaceOptions options;
  options.replacement = json.at("replacement").as_string();
  single_character(options.replacement);
  options.split = json.get("split", true);
  std::string scheme = json.get("prepend_scheme", json.get("add_prefix_space", true) ? "always" : "never");
  if (scheme == "always")
    options.prepend = MetaspacePrepend::kAlways;
  else if (scheme == "first")
    options.prepend = MetaspacePrepend::kFirst;
  else if (scheme == "never")
    options.prepend = MetaspacePrepend::kNever;
  else
    fail(ErrorCode::kRuntime, "found prepend_scheme \"{}\"; needed always, first or never", scheme);
  return options;
}

char32_t single_character(const std::string& text) {
  if (!is_valid_utf8(text) || count_characters(text) != 1)
    fail(ErrorCode::kRuntime, "found \"{}\" where exactly one character is needed", text);
  size_t at = 0;
  return next_character(text, at);
}

}  // namespace ingot
