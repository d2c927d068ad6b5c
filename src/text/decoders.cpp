#include "text/decoders.h"

#include <tuple>
#include <vector>

#include "base/error.h"
#include "text/decode_stages.h"
#include "text/metaspace.h"

namespace ingot {

namespace {

// A decoder that is one stage made of fixed options.
template <class Stage, class... Options>
class SimpleDecoder : public Decoder {
 public:
  explicit SimpleDecoder(Options... options) : options_(std::move(options)...) {}
  std::unique_ptr<DecodeStage> stage(std::unique_ptr<DecodeStage> next) const override {
    return std::apply([&](const auto&... o) { return std::make_unique<Stage>(std::move(next), o...); }, options_);
  }

 private:
  std::tuple<Options...> options_;
};

template <class Stage, class... Options>
std::unique_ptr<const Decoder> simple(Options... options) {
  return std::make_unique<SimpleDecoder<Stage, Options...>>(std::move(options)...);
}

class DecoderSequence : public Decoder {
 public:
  explicit DecoderSequence(const Json& json) {
    for (const Json& part : json.at("decoders").as_array()) parts_.push_back(make_decoder(part));
  }
  std::unique_ptr<DecodeStage> stage(std::unique_ptr<DecodeStage> next) const override {
    for (auto part = parts_.rbegin(); part != parts_.rend(); ++part) next = (*part)->stage(std::move(next));
    return next;
  }

 private:
  std::vector<std::unique_ptr<const Decoder>> parts_;
};

// The end of a chain: collects text.
class OutputStage : public DecodeStage {
 public:
  explicit OutputStage(std::string*& out) : out_(out) {}
  void text(std::string_view fragment) override { *out_ += fragment; }
  void end_token() override {}
  void finish() override {}

 private:
  std::string*& out_;
};

class StageChain : public DecodeChain {
 public:
  explicit StageChain(const Decoder& decoder) : first_(decoder.stage(std::make_unique<OutputStage>(out_))) {}
  void token(std::string_view token, std::string& out) override {
    out_ = &out;
    first_->token(token);
  }
  void finish(std::string& out) override {
    out_ = &out;
    first_->finish();
  }

 private:
  std::string* out_ = nullptr;
  std::unique_ptr<DecodeStage> first_;
};

std::unique_ptr<const Decoder> make_strip(const Json& json) {
  char32_t content = single_character(json.at("content").as_string());
  int64_t start = json.at("start").as_int(), stop = json.at("stop").as_int();
  if (start < 0 || stop < 0) fail(ErrorCode::kRuntime, "start and stop are counts, found {} and {}", start, stop);
  return simple<StripStage>(content, static_cast<size_t>(start), static_cast<size_t>(stop));
}

std::unique_ptr<const Decoder> make_replace(const Json& json) {
  Pattern pattern(json.at("pattern"));
  const std::string& content = json.at("content").as_string();
  if (const std::string* literal = pattern.literal()) return simple<ReplaceLiteralStage>(*literal, content);
  return simple<ReplacePatternStage>(pattern, content);
}

}  // namespace

std::unique_ptr<const Decoder> make_decoder(const Json& json) {
  const std::string& type = json.at("type").as_string();
  Scope scope("decoder " + type);
  if (type == "ByteLevel") return simple<ByteLevelStage>();
  if (type == "ByteFallback") return simple<ByteFallbackStage>();
  if (type == "Fuse") return simple<FuseStage>();
  if (type == "Metaspace") {
    MetaspaceOptions options = parse_metaspace(json);
    return simple<MetaspaceStage>(options.replacement, options.prepend != MetaspacePrepend::kNever);
  }
  if (type == "WordPiece") return simple<WordPieceStage>(json.get("prefix", "##"), json.get("cleanup", true));
  if (type == "BPEDecoder") return simple<WordEndStage>(json.get("suffix", "</w>"));
  if (type == "CTC")
    return simple<CtcStage>(json.get("pad_token", "<pad>"), json.get("word_delimiter_token", "|"),
                            json.get("cleanup", true));
  if (type == "Strip") return make_strip(json);
  if (type == "Replace") return make_replace(json);
  if (type == "Sequence") return std::make_unique<DecoderSequence>(json);
  fail(ErrorCode::kRuntime,
       "the type is not known; known are BPEDecoder, ByteFallback, ByteLevel, CTC, Fuse, Metaspace, Replace, Sequence, "
       "Strip, WordPiece");
}

std::unique_ptr<const Decoder> make_joining_decoder() { return simple<JoinStage>(); }

std::unique_ptr<DecodeChain> start_decoding(const Decoder& decoder) { return std::make_unique<StageChain>(decoder); }

}  // namespace ingot
