// ingot run: text from a prompt, as it is made.
#include "base/error.h"
#include "output.h"
#include "verbs.h"

#include <unistd.h>

#include <iostream>
#include <iterator>

namespace ingot::cli {

namespace {

// Without the line end that echo and editors put last; any other belongs to the prompt.
std::string prompt_of_standard_input() {
  std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  check_standard_input();
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

Json to_json(const Generation& g) {
  Json json = Json::object(), ids = Json::array();
  for (int32_t id : g.ids) ids.push(id);
  json.set("text", g.text);
  json.set("ids", ids);
  json.set("prompt_tokens", g.prompt_tokens);
  json.set("new_tokens", g.new_tokens);
  json.set("finish_reason", g.finish_reason);
  json.set("ms_first_token", g.ms_first_token);
  json.set("tokens_per_second", g.tokens_per_second);
  if (!g.logprobs.empty()) {
    Json logprobs = Json::array();
    for (float value : g.logprobs) logprobs.push(static_cast<double>(value));
    json.set("logprobs", logprobs);
  }
  return json;
}

}  // namespace

int run(const RunCommand& command) {
  std::string prompt = command.prompt_given ? command.prompt : prompt_of_standard_input();
  if (prompt.empty()) fail(ErrorCode::kUsage, "the prompt is empty; give one behind the engine or on standard input");
  Engine engine = open_text_engine(command.source, command.shared.progress);
  Session session(engine, command.session);
  if (command.shared.json) {
    print_line(to_json(session.generate(prompt, command.sampling)).dump());
    return 0;
  }
  Generation generation = session.generate(prompt, command.sampling, [](const std::string& piece) {
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    return std::fflush(stdout) == 0;
  });
  print_line("");
  if (isatty(STDERR_FILENO))
    std::fputs(
        format("[{} + {} tokens, first after {:.0f} ms, then {:.1f} tokens/s, {}]\n", generation.prompt_tokens,
               generation.new_tokens, generation.ms_first_token, generation.tokens_per_second, generation.finish_reason)
            .c_str(),
        stderr);
  return 0;
}

}  // namespace ingot::cli
