#include "text/post_processors.h"

#include <utility>

#include "base/error.h"

namespace ingot {

namespace {

constexpr int kMaxDepth = 16;

int32_t read_id(const Json& json) {
  int64_t id = json.as_int();
  if (id < 0 || id > INT32_MAX) fail(ErrorCode::kRuntime, "the token id {} is out of range", id);
  return static_cast<int32_t>(id);
}

// The id of ["[CLS]", 101].
int32_t read_token_pair(const Json& json) {
  const auto& pair = json.as_array();
  if (pair.size() != 2) fail(ErrorCode::kRuntime, "found {}; needed [\"token\", id]", json.dump());
  return read_id(pair[1]);
}

}  // namespace

PostProcessor::PostProcessor(const Json& json) { read(json, 0); }

void PostProcessor::read(const Json& json, int depth) {
  const std::string& type = json.at("type").as_string();
  Scope scope("post_processor " + type);
  if (type == "ByteLevel") return;  // concerns offsets only
  if (type == "Sequence") {
    if (depth == kMaxDepth) fail(ErrorCode::kRuntime, "nested deeper than {} levels", kMaxDepth);
    for (const Json& part : json.at("processors").as_array()) read(part, depth + 1);
    return;
  }
  bool known = type == "TemplateProcessing" || type == "BertProcessing" || type == "RobertaProcessing";
  if (!known)
    fail(ErrorCode::kRuntime,
         "the type is not known; known are BertProcessing, ByteLevel, RobertaProcessing, Sequence, TemplateProcessing");
  if (std::exchange(adds_tokens_, true))
    fail(ErrorCode::kRuntime, "a second processor that adds tokens in one sequence is not supported");
  if (type == "TemplateProcessing")
    read_template(json);
  else
    read_classification(json);
}

void PostProcessor::read_template(const Json& json) {
  pieces_.clear();
  for (const Json& piece : json.at("single").as_array()) {
    if (const Json* special = piece.find("SpecialToken")) {
      const std::string& name = special->at("id").as_string();
      Scope scope("special token " + name);
      std::vector<int32_t> ids;
      for (const Json& id : json.at("special_tokens").at(name).at("ids").as_array()) ids.push_back(read_id(id));
      pieces_.push_back({false, std::move(ids)});
    } else if (piece.at("Sequence").at("id").as_string() == "A") {
      pieces_.push_back({true, {}});
    } else {
      fail(ErrorCode::kRuntime, "the template for a single text uses the sequence {}; only A exists",
           piece.at("Sequence").at("id").dump());
    }
  }
}

void PostProcessor::read_classification(const Json& json) {
  int32_t begin = read_token_pair(json.at("cls")), end = read_token_pair(json.at("sep"));
  pieces_ = {{false, {begin}}, {true, {}}, {false, {end}}};
}

std::vector<int32_t> PostProcessor::process(std::vector<int32_t> ids, bool add_special_tokens) const {
  if (!adds_tokens_) return ids;
  std::vector<int32_t> result;
  result.reserve(ids.size() + pieces_.size());
  for (const Piece& piece : pieces_) {
    if (piece.is_text)
      result.insert(result.end(), ids.begin(), ids.end());
    else if (add_special_tokens)
      result.insert(result.end(), piece.special.begin(), piece.special.end());
  }
  return result;
}

}  // namespace ingot
