#include "text/tokenizer.h"

#include "base/error.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

namespace ingot {

namespace {

// Calls make(json[key]) unless the key is absent or null.
template <class F>
auto make_part(const Json& json, std::string_view key, F&& make) -> decltype(make(json)) {
  const Json* part = json.find_set(key);
  if (!part) return {};
  return make(*part);
}

}  // namespace

Tokenizer::Parts::Parts(const Json& json) {
  if (json.get("version", "1.0") != "1.0")
    fail(ErrorCode::kRuntime, "the tokenizer file has version \"{}\"; only 1.0 is known", json.get("version", ""));
  normalizer = make_part(json, "normalizer", make_normalizer);
  pre_tokenizer = make_part(json, "pre_tokenizer", make_pre_tokenizer);
  model = make_model(json.at("model"));
  const Json* tokens = json.find_set("added_tokens");
  added = std::make_unique<AddedTokens>(tokens ? tokens->as_array() : Json::Array{}, *model, normalizer.get());
  post_processor = make_part(json, "post_processor", [](const Json& part) { return PostProcessor(part); });
  decoder = make_part(json, "decoder", make_decoder);
  if (!decoder) decoder = make_joining_decoder();
}

std::unique_ptr<EncodeWorkspace> Tokenizer::Parts::take_workspace() const {
  {
    std::lock_guard lock(mutex_);
    if (!workspaces_.empty()) {
      auto workspace = std::move(workspaces_.back());
      workspaces_.pop_back();
      return workspace;
    }
  }
  auto workspace = std::make_unique<EncodeWorkspace>();
  workspace->model = model->make_workspace();
  return workspace;
}

void Tokenizer::Parts::keep_workspace(std::unique_ptr<EncodeWorkspace> workspace) const {
  std::lock_guard lock(mutex_);
  workspaces_.push_back(std::move(workspace));
}

std::optional<std::string_view> Tokenizer::Parts::token(int32_t id) const {
  if (const AddedToken* token = added->find(id)) return token->text;
  return model->vocabulary().token(id);
}

bool Tokenizer::Parts::is_special(int32_t id) const {
  auto text = token(id);
  return text && added->is_special(*text);
}

// One text on its way to ids: added tokens are cut out, the rest is normalized, cut into words and given to the model.
class Tokenizer::Parts::Encoding : public PieceSink {
 public:
  Encoding(const Parts& parts, EncodeWorkspace& workspace, std::vector<int32_t>& ids)
      : parts_(parts), workspace_(workspace), ids_(ids) {}

  void run(std::string_view text) {
    for (const AddedTokens::Part& part : parts_.added->cut(text, false)) {
      if (part.id != Vocabulary::kNone)
        ids_.push_back(part.id);
      else
        normalize(text.substr(part.range.begin, part.range.end - part.range.begin), part.range.begin == 0);
    }
  }

  void piece(std::string_view text, bool) override {
    while (!text.empty()) {
      size_t size = text.size() < kLongPieceBytes ? text.size() : parts_.model->independent_prefix(text);
      word(text.substr(0, size));
      text.remove_prefix(size);
    }
  }

 private:
  static constexpr size_t kLongPieceBytes = 32;

  void word(std::string_view text) {
    bool cached = text.size() <= WordCache::kMaxWordBytes;
    if (cached) {
      if (const auto* known = workspace_.words.find(text)) {
        ids_.insert(ids_.end(), known->begin(), known->end());
        return;
      }
    }
    size_t before = ids_.size();
    parts_.model->encode(text, workspace_.model.get(), ids_);
    if (cached && ids_.size() - before <= WordCache::kMaxIds)
      workspace_.words.add(text, std::span(ids_).subspan(before));
  }

  void normalize(std::string_view text, bool at_start) {
    NormalizedText value{{}, at_start};
    if (parts_.normalizer) {
      value.text = text;
      parts_.normalizer->normalize(value, workspace_.regex);
      text = value.text;
    }
    for (const AddedTokens::Part& part : parts_.added->cut(text, true)) {
      std::string_view stretch = part.id == Vocabulary::kNone
                                     ? text.substr(part.range.begin, part.range.end - part.range.begin)
                                     : std::string_view();
      bool begins = value.at_start && part.range.begin == 0;
      if (part.id != Vocabulary::kNone)
        ids_.push_back(part.id);
      else if (parts_.pre_tokenizer)
        parts_.pre_tokenizer->split(stretch, begins, workspace_.regex, *this);
      else
        piece(stretch, begins);
    }
  }

  const Parts& parts_;
  EncodeWorkspace& workspace_;
  std::vector<int32_t>& ids_;
};

std::vector<int32_t> Tokenizer::Parts::encode(std::string_view text) const {
  std::string repaired;
  if (!is_valid_utf8(text)) {
    append_repaired_utf8(repaired, text);
    text = repaired;
  }
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 8);
  auto workspace = take_workspace();
  Encoding(*this, *workspace, ids).run(text);
  keep_workspace(std::move(workspace));
  return ids;
}

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json) {
  Scope scope("tokenizer");
  return Tokenizer(std::make_shared<const Parts>(parse_json(tokenizer_json)));
}

Tokenizer Tokenizer::from_dir(const Path& directory) {
  Scope scope(directory.string());
  Tokenizer tokenizer = from_json(MappedFile(directory / "tokenizer.json").text());
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"})
    if (std::filesystem::exists(directory / name)) tokenizer.read_special_tokens(directory / name);
  return tokenizer;
}

void Tokenizer::read_special_tokens(const Path& file) {
  Scope scope(file.filename().string());
  Json json = parse_json(read_text_file(file));
  // A token is named by its text or by an object that holds it; one that the vocabulary lacks does not exist.
  auto read = [&](std::string_view key) -> std::optional<int32_t> {
    const Json* token = json.find_set(key);
    if (token && token->is_object()) token = token->find_set("content");
    if (!token) return std::nullopt;
    Scope scope(format("key \"{}\"", key));
    return token_to_id(token->as_string());
  };
  if (!bos_id_) bos_id_ = read("bos_token");
  if (!eos_id_) eos_id_ = read("eos_token");
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  return parts_->post_processor.process(parts_->encode(text), add_special_tokens);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::string text;
  auto chain = start_decoding(*parts_->decoder);
  for (int32_t id : ids) {
    auto token = parts_->token(id);
    if (!token || (skip_special_tokens && parts_->added->is_special(*token))) continue;
    chain->token(*token, text);
  }
  chain->finish(text);
  return text;
}

size_t Tokenizer::vocab_size() const {
  return parts_->model->size() + parts_->added->count_beyond(parts_->model->vocabulary());
}

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  int32_t id = parts_->added->id(token);
  if (id == Vocabulary::kNone) id = parts_->model->vocabulary().id(token);
  return id == Vocabulary::kNone ? std::nullopt : std::optional(id);
}

std::optional<std::string_view> Tokenizer::id_to_token(int32_t id) const { return parts_->token(id); }

bool Tokenizer::is_special(int32_t id) const { return parts_->is_special(id); }

}  // namespace ingot
