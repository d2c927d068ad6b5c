// Added tokens: strings that are cut out of a text before (or after) it is normalized and never reach the model.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/json.h"
#include "text/model.h"
#include "text/normalizers.h"
#include "text/trie.h"

namespace ingot {

struct AddedToken {
  std::string content;
  // How the token reads in ids: normalized, if the token is and the normalizer changes it.
  std::string text;
  bool single_word = false, left_strip = false, right_strip = false, normalized = true, special = false;
};

class AddedTokens {
 public:
  // From the "added_tokens" of a tokenizer file. Ids follow the model's vocabulary, then count on behind it, whatever
  // the file says: so do the tokenizers that wrote it.
  AddedTokens(const Json::Array& tokens, const Model& model, const Normalizer* normalizer);

  // A stretch of a text: an added token, or text between them.
  struct Part {
    TextRange range;
    int32_t id = Vocabulary::kNone;
  };
  // Cuts at the tokens that match the text as it was written (normalized false) or after normalization (true).
  std::vector<Part> cut(std::string_view text, bool normalized) const;

  const AddedToken* find(int32_t id) const;
  int32_t id(std::string_view content) const;
  // Whether decoding without special tokens leaves the id out. `token` is how the id reads.
  bool is_special(std::string_view token) const { return special_.contains(std::string(token)); }
  // The number of tokens that the model's vocabulary does not hold.
  size_t count_beyond(const Vocabulary& vocabulary) const;

 private:
  void add(AddedToken token, const Model& model, int32_t& next_id);
  bool stands_alone(std::string_view text, TextRange range) const;

  struct Finder {
    Trie trie;
    std::vector<bool> first_bytes = std::vector<bool>(256, false);
    bool empty = true;
  };
  static Finder make_finder(const std::map<int32_t, AddedToken>& tokens, bool normalized);

  std::map<int32_t, AddedToken> by_id_;
  std::unordered_map<std::string, int32_t> by_content_;
  std::unordered_set<std::string> special_;
  Finder written_, normalized_;
  std::optional<Regex> word_;  // one character of a word; only when a token asks for it
};

}  // namespace ingot
