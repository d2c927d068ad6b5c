// Whole words: a piece is a token or it is unknown.
#include "base/error.h"
#include "text/model.h"

namespace ingot {

namespace {

class WordLevelModel : public Model {
 public:
  explicit WordLevelModel(const Json& json) : unknown_token_(json.at("unk_token").as_string()) {
    vocabulary_ = Vocabulary(json.at("vocab").as_object());
  }

  void encode(std::string_view piece, ModelWorkspace*, std::vector<int32_t>& ids) const override {
    int32_t id = vocabulary_.id(piece);
    if (id == Vocabulary::kNone) id = vocabulary_.id(unknown_token_);
    if (id == Vocabulary::kNone)
      fail(ErrorCode::kRuntime, "the unknown token \"{}\" is not in the vocabulary of the tokenizer", unknown_token_);
    ids.push_back(id);
  }

 private:
  std::string unknown_token_;
};

}  // namespace

std::unique_ptr<const Model> make_word_level_model(const Json& json) { return std::make_unique<WordLevelModel>(json); }

}  // namespace ingot
