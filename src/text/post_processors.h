// Post-processors: the special tokens that are put around the ids of a text.
#pragma once

#include <cstdint>
#include <vector>

#include "base/json.h"

namespace ingot {

class PostProcessor {
 public:
  PostProcessor() = default;  // adds nothing
  // From the "post_processor" of a tokenizer file. Throws an Error that names a type that is not known.
  explicit PostProcessor(const Json& json);

  std::vector<int32_t> process(std::vector<int32_t> ids, bool add_special_tokens) const;

 private:
  void read(const Json& json, int depth);
  void read_template(const Json& json);
  void read_classification(const Json& json);

  // Either the ids of the text or special tokens.
  struct Piece {
    bool is_text;
    std::vector<int32_t> special;
  };
  std::vector<Piece> pieces_ = {{true, {}}};
  bool adds_tokens_ = false;
};

}  // namespace ingot
