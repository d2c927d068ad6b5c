// Byte pair encoding. A piece starts as one symbol per character; then, as long as some neighbours form a known pair,
// the pair of lowest rank (of equal ranks the leftmost) becomes one symbol. A heap holds the candidates, so a piece of
// n characters takes O(n log n); short pieces, nearly all of them, scan an array instead.
#include <algorithm>

#include "base/error.h"
#include "text/model.h"
#include "text/pair_map.h"
#include "text/unicode.h"

namespace ingot {

namespace {

struct Symbol {
  int32_t id;
  int32_t previous, next;  // positions of the neighbours; kNobody at the ends
  bool alive;
};
constexpr int32_t kNobody = -1;

struct Candidate {
  uint32_t rank;
  int32_t position;  // of the left symbol
  int32_t result;
  // For a heap with the lowest rank on top.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

struct BpeWorkspace : ModelWorkspace {
  std::vector<int32_t> ids;
  std::vector<uint32_t> ranks;
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
  std::string spelled;
};

class BpeModel : public Model {
 public:
  explicit BpeModel(const Json& json);
  std::unique_ptr<ModelWorkspace> make_workspace() const override { return std::make_unique<BpeWorkspace>(); }
  void encode(std::string_view piece, ModelWorkspace* workspace, std::vector<int32_t>& ids) const override;
  size_t independent_prefix(std::string_view piece) const override;

 private:
  void note_seam(std::string_view left, std::string_view right);
  void read_merges(const Json::Array& merges);
  void add_merge(std::string_view left, std::string_view right, uint32_t rank);
  void index_characters();
  // The ids of the single characters of a piece.
  void spell(std::string_view piece, BpeWorkspace& work) const;
  int32_t character_id(std::string_view piece, size_t begin, size_t end, BpeWorkspace& work) const;
  int32_t unknown_id() const;
  void merge_short(BpeWorkspace& work) const;
  void merge_long(BpeWorkspace& work) const;

  static constexpr size_t kShortSymbols = 48;
  static constexpr size_t kIndexedCharacters = 0x800;

  PairMap merges_;
  std::string unknown_token_, prefix_, suffix_, joined_;
  bool fuse_unknown_, byte_fallback_, ignore_merges_;
  bool decorated_;  // characters carry a prefix or suffix
  // Pairs of characters (left, right) between which some merge joins two symbols. Between any others no symbol ever
  // grows across, so that a piece may be cut there.
  PairMap seams_;
  std::vector<int32_t> byte_tokens_;
  std::vector<int32_t> indexed_;  // ids of the characters below kIndexedCharacters
};

size_t count_merges(const Json& json) { return json.at("merges").as_array().size(); }

BpeModel::BpeModel(const Json& json)
    : merges_(count_merges(json)),
      unknown_token_(json.get("unk_token", "")),
      prefix_(json.get("continuing_subword_prefix", "")),
      suffix_(json.get("end_of_word_suffix", "")),
      fuse_unknown_(json.get("fuse_unk", false)),
      byte_fallback_(json.get("byte_fallback", false)),
      ignore_merges_(json.get("ignore_merges", false)),
      decorated_(!prefix_.empty() || !suffix_.empty()),
      seams_(count_merges(json)) {
  if (json.get("dropout", 0.0) != 0.0)
    fail(ErrorCode::kRuntime, "dropout is {}; only encoding without dropout is supported, set it to null",
         json.get("dropout", 0.0));
  vocabulary_ = Vocabulary(json.at("vocab").as_object());
  read_merges(json.at("merges").as_array());
  if (byte_fallback_) byte_tokens_ = find_byte_tokens(vocabulary_);
  index_characters();
}

// Merges are ["a", "b"], or "a b" in older files, whose list may begin with a line of its version.
void BpeModel::read_merges(const Json::Array& merges) {
  uint32_t rank = 0;
  for (const Json& merge : merges) {
    if (merge.is_array()) {
      const auto& pair = merge.as_array();
      if (pair.size() != 2) fail(ErrorCode::kRuntime, "merge {} has {} parts; needed 2", rank, pair.size());
      add_merge(pair[0].as_string(), pair[1].as_string(), rank++);
      continue;
    }
    std::string_view text = merge.as_string();
    if (text.starts_with("#version")) continue;
    size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos)
      fail(ErrorCode::kRuntime, "merge {} is \"{}\"; needed two tokens with one space between them", rank,
           std::string(text));
    add_merge(text.substr(0, space), text.substr(space + 1), rank++);
  }
}

void BpeModel::add_merge(std::string_view left, std::string_view right, uint32_t rank) {
  auto find = [&](std::string_view token) {
    int32_t id = vocabulary_.id(token);
    if (id == Vocabulary::kNone)
      fail(ErrorCode::kRuntime, "merge {} needs the token \"{}\", which is not in the vocabulary", rank,
           std::string(token));
    return id;
  };
  int32_t left_id = find(left), right_id = find(right);
  if (!decorated_) note_seam(left, right);
  if (right.size() < prefix_.size())
    fail(ErrorCode::kRuntime, "merge {}: \"{}\" is shorter than the subword prefix", rank, std::string(right));
  joined_.assign(left);
  joined_ += right.substr(prefix_.size());
  merges_.set(left_id, right_id, {rank, find(joined_)});
}

void BpeModel::note_seam(std::string_view left, std::string_view right) {
  if (left.empty() || right.empty()) return;
  size_t begin = 0;
  auto last = static_cast<int32_t>(character_before(left, left.size()));
  seams_.set(last, static_cast<int32_t>(next_character(right, begin)), {});
}

size_t BpeModel::independent_prefix(std::string_view piece) const {
  // A piece that is a token as a whole must stay whole; characters without a token of their own look at neighbours.
  if (decorated_ || ignore_merges_) return piece.size();
  auto known = [&](std::string_view one, char32_t c) {
    return (c < kIndexedCharacters ? indexed_[c] : vocabulary_.id(one)) != Vocabulary::kNone;
  };
  size_t at = 0;
  char32_t left = next_character(piece, at);
  bool left_known = known(piece.substr(0, at), left);
  while (at < piece.size()) {
    size_t begin = at;
    char32_t right = next_character(piece, at);
    bool right_known = known(piece.substr(begin, at - begin), right);
    if (left_known && right_known && !seams_.find(static_cast<int32_t>(left), static_cast<int32_t>(right)))
      return begin;
    left = right;
    left_known = right_known;
  }
  return piece.size();
}

void BpeModel::index_characters() {
  indexed_.resize(kIndexedCharacters);
  std::string text;
  for (size_t c = 0; c < kIndexedCharacters; ++c) {
    text.clear();
    append_character(text, static_cast<char32_t>(c));
    indexed_[c] = vocabulary_.id(text);
  }
}

int32_t BpeModel::unknown_id() const {
  int32_t id = vocabulary_.id(unknown_token_);
  if (id == Vocabulary::kNone)
    fail(ErrorCode::kRuntime, "the unknown token \"{}\" is not in the vocabulary of the tokenizer", unknown_token_);
  return id;
}

int32_t BpeModel::character_id(std::string_view piece, size_t begin, size_t end, BpeWorkspace& work) const {
  std::string_view one = piece.substr(begin, end - begin);
  if (!decorated_) return vocabulary_.id(one);
  work.spelled.clear();
  if (begin > 0) work.spelled += prefix_;
  work.spelled += one;
  if (end == piece.size()) work.spelled += suffix_;
  return vocabulary_.id(work.spelled);
}

void BpeModel::spell(std::string_view piece, BpeWorkspace& work) const {
  work.ids.clear();
  int32_t unknown = Vocabulary::kNone;  // one that waits for what follows: a run of them may be fused
  for (size_t at = 0; at < piece.size();) {
    size_t begin = at;
    char32_t c = next_character(piece, at);
    int32_t id = !decorated_ && c < kIndexedCharacters ? indexed_[c] : character_id(piece, begin, at, work);
    if (id != Vocabulary::kNone) {
      if (unknown != Vocabulary::kNone) work.ids.push_back(unknown);
      unknown = Vocabulary::kNone;
      work.ids.push_back(id);
      continue;
    }
    if (byte_fallback_) {
      std::string_view bytes = decorated_ ? std::string_view(work.spelled) : piece.substr(begin, at - begin);
      auto token_of = [&](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)]; };
      if (std::all_of(bytes.begin(), bytes.end(), [&](char byte) { return token_of(byte) != Vocabulary::kNone; })) {
        for (char byte : bytes) work.ids.push_back(token_of(byte));  // a waiting unknown token keeps waiting
        continue;
      }
    }
    if (unknown_token_.empty()) continue;
    if (unknown != Vocabulary::kNone && !fuse_unknown_) work.ids.push_back(unknown);
    unknown = unknown_id();
  }
  if (unknown != Vocabulary::kNone) work.ids.push_back(unknown);
}

void BpeModel::merge_short(BpeWorkspace& work) const {
  std::vector<int32_t>& ids = work.ids;
  std::vector<uint32_t>& ranks = work.ranks;  // of the pair that begins here
  auto rank_at = [&](size_t i) {
    const PairMap::Merge* merge = i + 1 < ids.size() ? merges_.find(ids[i], ids[i + 1]) : nullptr;
    return merge ? merge->rank : UINT32_MAX;
  };
  ranks.resize(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) ranks[i] = rank_at(i);
  while (ids.size() > 1) {
    auto best = static_cast<size_t>(std::min_element(ranks.begin(), ranks.end()) - ranks.begin());
    if (ranks[best] == UINT32_MAX) break;
    ids[best] = merges_.find(ids[best], ids[best + 1])->result;
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(best) + 1);
    ranks.erase(ranks.begin() + static_cast<ptrdiff_t>(best) + 1);
    ranks[best] = rank_at(best);
    if (best > 0) ranks[best - 1] = rank_at(best - 1);
  }
}

void BpeModel::merge_long(BpeWorkspace& work) const {
  auto count = static_cast<int32_t>(work.ids.size());
  auto& symbols = work.symbols;
  auto& heap = work.heap;
  symbols.clear();
  heap.clear();
  for (int32_t i = 0; i < count; ++i)
    symbols.push_back({work.ids[static_cast<size_t>(i)], i - 1, i + 1 < count ? i + 1 : kNobody, true});
  auto at = [&](int32_t position) -> Symbol& { return symbols[static_cast<size_t>(position)]; };
  auto consider = [&](int32_t left) {
    if (left == kNobody || at(left).next == kNobody) return;
    const PairMap::Merge* merge = merges_.find(at(left).id, at(at(left).next).id);
    if (!merge) return;
    heap.push_back({merge->rank, left, merge->result});
    std::push_heap(heap.begin(), heap.end());
  };
  for (int32_t i = 0; i < count; ++i) consider(i);
  while (!heap.empty()) {
    Candidate best = heap.front();
    std::pop_heap(heap.begin(), heap.end());
    heap.pop_back();
    Symbol& left = at(best.position);
    if (!left.alive || left.next == kNobody) continue;
    Symbol& right = at(left.next);
    // The neighbours may have changed since the candidate was noted.
    const PairMap::Merge* merge = merges_.find(left.id, right.id);
    if (!merge || merge->result != best.result) continue;
    left.id = best.result;
    left.next = right.next;
    right.alive = false;
    if (left.next != kNobody) at(left.next).previous = best.position;
    consider(left.previous);
    consider(best.position);
  }
  work.ids.clear();
  for (const Symbol& symbol : symbols)
    if (symbol.alive) work.ids.push_back(symbol.id);
}

void BpeModel::encode(std::string_view piece, ModelWorkspace* workspace, std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    if (int32_t id = vocabulary_.id(piece); id != Vocabulary::kNone) {
      ids.push_back(id);
      return;
    }
  }
  if (piece.size() >= INT32_MAX) fail(ErrorCode::kRuntime, "a word of {} bytes is too long", piece.size());
  auto& work = static_cast<BpeWorkspace&>(*workspace);
  spell(piece, work);
  if (work.ids.size() <= kShortSymbols)
    merge_short(work);
  else
    merge_long(work);
  ids.insert(ids.end(), work.ids.begin(), work.ids.end());
}

}  // namespace

std::unique_ptr<const Model> make_bpe_model(const Json& json) { return std::make_unique<BpeModel>(json); }

}  // namespace ingot
