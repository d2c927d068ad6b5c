// Word pieces: the longest known beginning, then the longest known continuation, and so on; a word that cannot be
// covered this way is unknown as a whole.
#include "base/error.h"
#include "text/model.h"
#include "text/trie.h"
#include "text/unicode.h"

namespace ingot {

namespace {

class WordPieceModel : public Model {
 public:
  explicit WordPieceModel(const Json& json)
      : unknown_token_(json.at("unk_token").as_string()),
        max_characters_(json.at("max_input_chars_per_word").as_int()) {
    if (max_characters_ < 0) fail(ErrorCode::kRuntime, "max_input_chars_per_word is {}", max_characters_);
    const Json::Object& vocab = json.at("vocab").as_object();
    vocabulary_ = Vocabulary(vocab);
    std::vector<std::pair<std::string_view, int32_t>> entries;
    entries.reserve(vocab.size());
    for (const auto& [token, id] : vocab) entries.emplace_back(token, static_cast<int32_t>(id.as_int()));
    trie_ = Trie(std::move(entries));
    continuation_ = trie_.descend(Trie::kRoot, json.at("continuing_subword_prefix").as_string());
  }

  void encode(std::string_view piece, ModelWorkspace*, std::vector<int32_t>& ids) const override {
    const size_t before = ids.size();
    bool covered = count_characters(piece) <= static_cast<size_t>(max_characters_);
    for (size_t at = 0; covered && at < piece.size();) {
      Trie::Match match;
      Trie::Node from = at == 0 ? Trie::kRoot : continuation_;
      if (from != Trie::kNowhere) match = trie_.longest(piece.substr(at), from);
      covered = match.value != Trie::kNone;
      ids.push_back(match.value);
      at += match.size;
    }
    if (covered) return;
    ids.resize(before);
    int32_t unknown = vocabulary_.id(unknown_token_);
    if (unknown == Vocabulary::kNone)
      fail(ErrorCode::kRuntime, "the unknown token \"{}\" is not in the vocabulary of the tokenizer", unknown_token_);
    ids.push_back(unknown);
  }

 private:
  Trie trie_;
  Trie::Node continuation_ = Trie::kNowhere;  // where the pieces that continue a word hang
  std::string unknown_token_;
  int64_t max_characters_;
};

}  // namespace

std::unique_ptr<const Model> make_word_piece_model(const Json& json) { return std::make_unique<WordPieceModel>(json); }

}  // namespace ingot
