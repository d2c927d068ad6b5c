// ingot inspect and ingot devices: what is there. JSON from the library, or the same as an indented outline.
#include "base/format.h"
#include "output.h"
#include "verbs.h"

namespace ingot::cli {

namespace {

std::string scalar(const Json& json) { return json.is_string() ? json.as_string() : json.dump(); }

bool is_flat(const Json& json) {
  for (const Json& element : json.as_array())
    if (element.is_array() || element.is_object()) return false;
  return true;
}

void outline(const Json& json, const std::string& indent);

void outline_member(const std::string& key, const Json& value, const std::string& indent) {
  if (value.is_array() && is_flat(value)) {
    std::vector<std::string> parts;
    for (const Json& element : value.as_array()) parts.push_back(scalar(element));
    print_line(indent + key + ": " + (parts.empty() ? "none" : join(parts)));
  } else if (value.is_array() || value.is_object()) {
    print_line(indent + key + ":");
    outline(value, indent + "  ");
  } else if (value.is_string() && value.as_string().find('\n') != std::string::npos) {
    print_line(indent + key + ":\n" + value.as_string());
  } else {
    print_line(indent + key + ": " + scalar(value));
  }
}

void outline(const Json& json, const std::string& indent) {
  if (json.is_array()) {
    for (const Json& element : json.as_array()) {
      if (!element.is_object()) {
        print_line(indent + scalar(element));
        continue;
      }
      std::vector<std::string> parts;
      bool flat = true;
      for (const auto& [key, value] : element.as_object()) flat = flat && !value.is_object() && !value.is_array();
      if (!flat) {
        outline(element, indent);
        continue;
      }
      for (const auto& [key, value] : element.as_object()) parts.push_back(scalar(value));
      print_line(indent + join(parts, "  "));
    }
    return;
  }
  for (const auto& [key, value] : json.as_object()) outline_member(key, value, indent);
}

void print_result(const std::string& text, bool as_json) {
  if (as_json) return print_line(text);
  outline(parse_json(text), "");
}

}  // namespace

int run(const InspectCommand& command) {
  print_result(inspect(command.path, command.options), command.shared.json);
  return 0;
}

int run_devices(const Shared& shared) {
  print_result(devices(), shared.json);
  return 0;
}

}  // namespace ingot::cli
