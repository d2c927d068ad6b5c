#include "text/model.h"

#include "base/error.h"

namespace ingot {

std::unique_ptr<const Model> make_model(const Json& json) {
  // Files older than the "type" key are told apart by what they hold, as their readers did.
  std::string type = json.get("type", "");
  if (type.empty()) {
    if (json.find("merges"))
      type = "BPE";
    else if (json.find("max_input_chars_per_word"))
      type = "WordPiece";
    else
      type = json.at("vocab").is_array() ? "Unigram" : "WordLevel";
  }
  Scope scope("model " + type);
  if (type == "BPE") return make_bpe_model(json);
  if (type == "Unigram") return make_unigram_model(json);
  if (type == "WordPiece") return make_word_piece_model(json);
  if (type == "WordLevel") return make_word_level_model(json);
  fail(ErrorCode::kRuntime, "the type is not known; known are BPE, Unigram, WordLevel, WordPiece");
}

std::vector<int32_t> find_byte_tokens(const Vocabulary& vocabulary) {
  std::vector<int32_t> ids(256);
  for (int byte = 0; byte < 256; ++byte) ids[static_cast<size_t>(byte)] = vocabulary.id(format("<0x{:02X}>", byte));
  return ids;
}

}  // namespace ingot
