// The unigram model: of all ways to write a piece as tokens, the one with the highest sum of scores (Viterbi's
// algorithm over byte positions). A character that no token covers alone costs the lowest score less a penalty.
#include <algorithm>
#include <limits>

#include "base/error.h"
#include "text/model.h"
#include "text/trie.h"
#include "text/unicode.h"

namespace ingot {

namespace {

constexpr double kUnknownPenalty = 10.0;

// The best way to reach a position.
struct Arrival {
  double score = 0;
  int32_t id = 0;
  size_t from = kNowhere;
  static constexpr size_t kNowhere = SIZE_MAX;
};

struct UnigramWorkspace : ModelWorkspace {
  std::vector<Arrival> arrivals;
  std::vector<size_t> cuts;
};

class UnigramModel : public Model {
 public:
  explicit UnigramModel(const Json& json);
  std::unique_ptr<ModelWorkspace> make_workspace() const override { return std::make_unique<UnigramWorkspace>(); }
  void encode(std::string_view piece, ModelWorkspace* workspace, std::vector<int32_t>& ids) const override;
  size_t size() const override { return scores_.size(); }

 private:
  void find_best_path(std::string_view piece, std::vector<Arrival>& arrivals) const;
  void append_ids(std::string_view word, std::vector<int32_t>& ids) const;
  int32_t unknown_id() const;

  std::vector<double> scores_;  // by id
  Trie trie_;
  double unknown_score_ = 0;
  int32_t unknown_ = Vocabulary::kNone;
  std::vector<int32_t> byte_tokens_;  // empty without byte fallback
};

UnigramModel::UnigramModel(const Json& json) {
  const Json::Array& vocab = json.at("vocab").as_array();
  vocabulary_.reserve(vocab.size());
  scores_.reserve(vocab.size());
  std::vector<std::pair<std::string_view, int32_t>> entries;
  entries.reserve(vocab.size());
  double lowest = std::numeric_limits<double>::infinity();
  for (const Json& entry : vocab) {
    const Json::Array& pair = entry.as_array();
    if (pair.size() != 2) fail(ErrorCode::kRuntime, "found {}; needed [\"token\", score]", entry.dump());
    const std::string& token = pair[0].as_string();
    auto id = static_cast<int32_t>(scores_.size());
    scores_.push_back(pair[1].as_double());
    lowest = std::min(lowest, scores_.back());
    vocabulary_.add(token, id);
    entries.emplace_back(token, id);
  }
  trie_ = Trie(std::move(entries));
  unknown_score_ = lowest - kUnknownPenalty;
  if (const Json* unknown = json.find_set("unk_id")) {
    int64_t id = unknown->as_int();
    if (id < 0 || static_cast<size_t>(id) >= scores_.size())
      fail(ErrorCode::kRuntime, "unk_id is {}, the vocabulary has {} tokens", id, scores_.size());
    unknown_ = static_cast<int32_t>(id);
  }
  if (json.get("byte_fallback", false)) byte_tokens_ = find_byte_tokens(vocabulary_);
}

int32_t UnigramModel::unknown_id() const {
  if (unknown_ == Vocabulary::kNone)
    fail(ErrorCode::kRuntime, "the text holds a character outside the vocabulary and the tokenizer has no unk_id");
  return unknown_;
}

void UnigramModel::find_best_path(std::string_view piece, std::vector<Arrival>& arrivals) const {
  arrivals.assign(piece.size() + 1, Arrival{});
  for (size_t begin = 0; begin < piece.size();) {
    const double so_far = arrivals[begin].score;
    auto offer = [&](size_t end, double score, int32_t id) {
      Arrival& there = arrivals[end];
      if (there.from == Arrival::kNowhere || so_far + score > there.score) there = {so_far + score, id, begin};
    };
    const size_t one = utf8_length(static_cast<unsigned char>(piece[begin]));
    bool single = false;
    Trie::Node node = Trie::kRoot;
    for (size_t end = begin; end < piece.size();) {
      node = trie_.step(node, static_cast<unsigned char>(piece[end++]));
      if (node == Trie::kNowhere) break;
      int32_t id = trie_.value(node);
      if (id == Trie::kNone) continue;
      offer(end, scores_[static_cast<size_t>(id)], id);
      single |= end == begin + one;
    }
    if (!single) {
      Arrival& there = arrivals[begin + one];
      if (there.from == Arrival::kNowhere || so_far + unknown_score_ > there.score)
        there = {so_far + unknown_score_, unknown_id(), begin};
    }
    begin += one;
  }
}

void UnigramModel::append_ids(std::string_view word, std::vector<int32_t>& ids) const {
  int32_t id = vocabulary_.id(word);
  if (id != Vocabulary::kNone) {
    ids.push_back(id);
    return;
  }
  auto token_of = [&](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)]; };
  bool as_bytes = !byte_tokens_.empty() &&
                  std::all_of(word.begin(), word.end(), [&](char byte) { return token_of(byte) != Vocabulary::kNone; });
  if (as_bytes) {
    for (char byte : word) ids.push_back(token_of(byte));
  } else {
    ids.push_back(unknown_id());
  }
}

void UnigramModel::encode(std::string_view piece, ModelWorkspace* workspace, std::vector<int32_t>& ids) const {
  auto& work = static_cast<UnigramWorkspace&>(*workspace);
  find_best_path(piece, work.arrivals);
  // Cut positions from the end; none between neighbouring unknown words, which count as one.
  std::vector<size_t>& cuts = work.cuts;
  cuts.clear();
  bool after_unknown = false;
  for (size_t end = piece.size(); end > 0; end = work.arrivals[end].from) {
    bool unknown = unknown_ != Vocabulary::kNone && work.arrivals[end].id == unknown_;
    if (!(unknown && after_unknown)) cuts.push_back(end);
    after_unknown = unknown;
  }
  size_t begin = 0;
  for (auto end = cuts.rbegin(); end != cuts.rend(); ++end) {
    append_ids(piece.substr(begin, *end - begin), ids);
    begin = *end;
  }
}

}  // namespace

std::unique_ptr<const Model> make_unigram_model(const Json& json) { return std::make_unique<UnigramModel>(json); }

}  // namespace ingot
