// Models: from the pieces of a text to token ids.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/vocabulary.h"

namespace ingot {

// What one thread needs to run a model; reused from piece to piece.
class ModelWorkspace {
 public:
  virtual ~ModelWorkspace() = default;
};

// Immutable; encode may run on many threads, each with a workspace of its own made by this model.
class Model {
 public:
  virtual ~Model() = default;
  virtual std::unique_ptr<ModelWorkspace> make_workspace() const { return nullptr; }
  // The length of a beginning of the piece that may be encoded by itself: the rest gives the same ids with or without
  // it. Long pieces are encoded in such parts, which repeat more often than the whole.
  virtual size_t independent_prefix(std::string_view piece) const { return piece.size(); }
  // Appends the ids of a piece, which is not empty. The result depends on nothing but the piece.
  virtual void encode(std::string_view piece, ModelWorkspace* workspace, std::vector<int32_t>& ids) const = 0;
  const Vocabulary& vocabulary() const { return vocabulary_; }
  // The id that the first token without one of its own gets.
  virtual size_t size() const { return vocabulary_.size(); }

 protected:
  Vocabulary vocabulary_;
};

// From the "model" of a tokenizer file. Throws an Error that names a type that is not known.
std::unique_ptr<const Model> make_model(const Json& json);

std::unique_ptr<const Model> make_bpe_model(const Json& json);
std::unique_ptr<const Model> make_unigram_model(const Json& json);
std::unique_ptr<const Model> make_word_piece_model(const Json& json);
std::unique_ptr<const Model> make_word_level_model(const Json& json);

// The ids of the tokens <0x00> … <0xFF> that stand for single bytes; Vocabulary::kNone where there is none.
std::vector<int32_t> find_byte_tokens(const Vocabulary& vocabulary);

}  // namespace ingot
