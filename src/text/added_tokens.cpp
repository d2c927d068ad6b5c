#include "text/added_tokens.h"

#include <algorithm>

#include "base/error.h"
#include "text/regex_syntax.h"
#include "text/unicode.h"

namespace ingot {

namespace {

AddedToken read_token(const Json& json) {
  AddedToken token;
  token.content = json.at("content").as_string();
  token.special = json.get("special", false);
  token.single_word = json.get("single_word", false);
  token.left_strip = json.get("lstrip", false);
  token.right_strip = json.get("rstrip", false);
  token.normalized = json.get("normalized", !token.special);
  token.text = token.content;
  return token;
}

size_t skip_spaces_back(std::string_view text, size_t end) {
  while (end > 0) {
    char32_t c = character_before(text, end);
    if (!is_whitespace(c)) break;
    do --end;
    while ((text[end] & 0xC0) == 0x80);
  }
  return end;
}

size_t skip_spaces(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    size_t next = begin;
    if (!is_whitespace(next_character(text, next))) break;
    begin = next;
  }
  return begin;
}

}  // namespace

AddedTokens::AddedTokens(const Json::Array& tokens, const Model& model, const Normalizer* normalizer) {
  RegexWorkspace workspace;
  auto next_id = static_cast<int32_t>(model.size());
  for (const Json& json : tokens) {
    Scope scope("added token " + json.get("content", ""));
    AddedToken token = read_token(json);
    if (token.content.empty()) continue;
    if (token.normalized && normalizer) {
      NormalizedText value{token.content};
      normalizer->normalize(value, workspace);
      token.text = std::move(value.text);
    }
    if (token.single_word && !word_) word_ = Regex::from_pcre2("[" + std::string(kRustWordItems) + "]");
    add(std::move(token), model, next_id);
  }
  written_ = make_finder(by_id_, false);
  normalized_ = make_finder(by_id_, true);
}

void AddedTokens::add(AddedToken token, const Model& model, int32_t& next_id) {
  int32_t id = this->id(token.content);
  if (id == Vocabulary::kNone) id = model.vocabulary().id(token.content);
  if (id == Vocabulary::kNone) id = next_id++;
  by_content_[token.content] = id;
  if (token.special) special_.insert(token.content);
  // A token that is given twice reads as its first normalized form, even if the second is not to be normalized.
  AddedToken& entry = by_id_[id];
  if (!entry.text.empty() && entry.text != entry.content) token.text = entry.text;
  entry = std::move(token);
}

AddedTokens::Finder AddedTokens::make_finder(const std::map<int32_t, AddedToken>& tokens, bool normalized) {
  Finder finder;
  std::vector<std::pair<std::string_view, int32_t>> entries;
  for (const auto& [id, token] : tokens) {
    const std::string& text = normalized ? token.text : token.content;
    if (token.normalized != normalized || text.empty()) continue;
    entries.emplace_back(text, id);
    finder.first_bytes[static_cast<unsigned char>(text[0])] = true;
  }
  finder.empty = entries.empty();
  finder.trie = Trie(std::move(entries));
  return finder;
}

bool AddedTokens::stands_alone(std::string_view text, TextRange range) const {
  RegexWorkspace workspace;
  auto is_word = [&](char32_t c) {
    std::string one;
    append_character(one, c);
    return word_->find(workspace, one, 0).has_value();
  };
  if (range.begin > 0 && is_word(character_before(text, range.begin))) return false;
  size_t end = range.end;
  return end == text.size() || !is_word(next_character(text, end));
}

std::vector<AddedTokens::Part> AddedTokens::cut(std::string_view text, bool normalized) const {
  const Finder& finder = normalized ? normalized_ : written_;
  std::vector<Part> parts;
  size_t done = 0;
  for (size_t at = 0; !finder.empty && at < text.size();) {
    Trie::Match match;
    if (finder.first_bytes[static_cast<unsigned char>(text[at])]) match = finder.trie.longest(text.substr(at));
    if (match.value == Trie::kNone) {
      ++at;
      continue;
    }
    TextRange range{at, at + match.size};
    at = range.end;
    const AddedToken& token = by_id_.at(match.value);
    if (token.single_word && !stands_alone(text, range)) continue;
    if (token.left_strip) range.begin = std::max(skip_spaces_back(text, range.begin), done);
    if (token.right_strip) range.end = skip_spaces(text, range.end);
    if (done < range.begin) parts.push_back({{done, range.begin}});
    if (range.begin < range.end) parts.push_back({range, match.value});
    done = range.end;
  }
  if (done != text.size()) parts.push_back({{done, text.size()}});
  return parts;
}

const AddedToken* AddedTokens::find(int32_t id) const {
  auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &found->second;
}

int32_t AddedTokens::id(std::string_view content) const {
  auto found = by_content_.find(std::string(content));
  return found == by_content_.end() ? Vocabulary::kNone : found->second;
}

size_t AddedTokens::count_beyond(const Vocabulary& vocabulary) const {
  return static_cast<size_t>(std::count_if(by_content_.begin(), by_content_.end(), [&](const auto& entry) {
    return vocabulary.id(entry.first) == Vocabulary::kNone;
  }));
}

}  // namespace ingot
