// ingot tokenize and detokenize: the text path alone.
#include "base/error.h"
#include "output.h"
#include "verbs.h"

#include <iostream>

namespace ingot::cli {

namespace {

Json ids_json(const std::vector<int32_t>& ids) {
  Json array = Json::array();
  for (int32_t id : ids) array.push(id);
  return array;
}

std::vector<int32_t> ids_of(const Json& json) {
  std::vector<int32_t> ids;
  for (const Json& id : json.as_array()) {
    int64_t value = id.as_int();
    if (value < 0 || value > INT32_MAX) fail(ErrorCode::kUsage, "{} is no token id", value);
    ids.push_back(static_cast<int32_t>(value));
  }
  return ids;
}

// Calls f with every line of standard input; errors say which line.
template <class F>
void for_each_line(F&& f) {
  std::string line;
  for (int64_t number = 1; std::getline(std::cin, line); ++number) {
    Scope scope(format("line {}", number));
    if (!line.empty()) f(line);
  }
  check_standard_input();
}

}  // namespace

int run_tokenize(const TokenizeCommand& command) {
  TextCodec codec = TextCodec::from_dir(command.model);
  if (!command.shared.json) {
    std::string text(std::istreambuf_iterator<char>(std::cin), {});
    check_standard_input();
    print_line(ids_json(codec.encode(text, true)).dump());
    return 0;
  }
  for_each_line([&](const std::string& line) {
    std::string text = parse_json(line).at("text").as_string();
    Json json = Json::object();
    json.set("ids", ids_json(codec.encode(text, true)));
    json.set("ids_no_special", ids_json(codec.encode(text, false)));
    print_line(json.dump());
  });
  return 0;
}

int run_detokenize(const TokenizeCommand& command) {
  TextCodec codec = TextCodec::from_dir(command.model);
  for_each_line([&](const std::string& line) {
    Json input = parse_json(line);
    std::string text = codec.decode(ids_of(command.shared.json ? input.at("ids") : input), true);
    if (!command.shared.json) return print_line(text);
    Json json = Json::object();
    json.set("text", text);
    print_line(json.dump());
  });
  return 0;
}

}  // namespace ingot::cli
