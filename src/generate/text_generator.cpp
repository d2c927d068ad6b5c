#include "generate/text_generator.h"

namespace ingot {

std::vector<int32_t> TextGenerator::encode(std::string_view prompt) const {
  std::vector<int32_t> ids = tokenizer_.encode(prompt, true);
  if (auto bos = tokenizer_.bos_id(); bos && ids.size() >= 2 && ids[0] == *bos && ids[1] == *bos)
    ids.erase(ids.begin());
  return ids;
}

uint64_t TextGenerator::submit(std::vector<int32_t> prompt, const SamplingParams& params) {
  Answer answer{Detokenizer(tokenizer_, true), StopStrings(params.stop), params.min_tokens, 0};
  uint64_t id = session_.submit({std::move(prompt), params});
  answers_.emplace(id, std::move(answer));
  return id;
}

void TextGenerator::cancel(uint64_t id) {
  session_.cancel(id);
  answers_.erase(id);
}

std::vector<TextEvent> TextGenerator::step() {
  std::vector<TextEvent> events;
  for (TokenEvent& event : session_.step()) events.push_back(tell(std::move(event)));
  return events;
}

TextEvent TextGenerator::tell(TokenEvent event) {
  auto found = answers_.find(event.request);
  Answer& answer = found->second;
  ++answer.tokens;
  bool ended = !event.finish_reason.empty();
  // The token that ends an answer by its meaning is no part of the text.
  std::string piece = event.finish_reason == "stop" ? "" : answer.detokenizer.push(event.token.id);
  if (ended) piece += answer.detokenizer.finish();
  TextEvent told{event.request, "", std::move(event.token), std::move(event.finish_reason)};
  if (answer.tokens < answer.min_tokens) {
    told.text = std::move(piece);
  } else {
    told.text = answer.stops.push(piece);
    if (answer.stops.found()) {
      told.finish_reason = "stop";
      session_.cancel(event.request);
      ended = true;
    } else if (ended) {
      told.text += answer.stops.finish();
    }
  }
  if (ended) answers_.erase(found);
  return told;
}

}  // namespace ingot
