// The stages of decoder chains, one per decoder type. Each says in a line what it does to the stream of tokens.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "text/decoders.h"
#include "text/pattern.h"

namespace ingot {

class ForwardingStage : public DecodeStage {
 public:
  explicit ForwardingStage(std::unique_ptr<DecodeStage> next) : next_(std::move(next)) {}
  void finish() override { next_->finish(); }

 protected:
  std::unique_ptr<DecodeStage> next_;
};

// A stage that must see a token whole.
class WholeTokenStage : public ForwardingStage {
 public:
  using ForwardingStage::ForwardingStage;
  void text(std::string_view fragment) final { token_ += fragment; }
  void end_token() final {
    whole_token(token_);
    token_.clear();
    ++index_;
  }

 protected:
  virtual void whole_token(std::string& token) = 0;
  size_t index_ = 0;  // of the current token

 private:
  std::string token_;
};

// Tokens joined by spaces.
class JoinStage : public WholeTokenStage {
 public:
  using WholeTokenStage::WholeTokenStage;

 protected:
  void whole_token(std::string& token) override;
};

// All tokens become one.
class FuseStage : public ForwardingStage {
 public:
  using ForwardingStage::ForwardingStage;
  void text(std::string_view fragment) override { next_->text(fragment); }
  void end_token() override {}
  void finish() override;
};

// Tokens of byte characters become one token of text; bytes that are not UTF-8 become U+FFFD.
class ByteLevelStage : public WholeTokenStage {
 public:
  using WholeTokenStage::WholeTokenStage;
  void finish() override;

 protected:
  void whole_token(std::string& token) override;

 private:
  std::string bytes_;  // the beginning of a character whose end has not come yet
};

// Runs of <0xAB> tokens become their text, or one U+FFFD each when the run as a whole is not UTF-8.
class ByteFallbackStage : public WholeTokenStage {
 public:
  using WholeTokenStage::WholeTokenStage;
  void finish() override;

 protected:
  void whole_token(std::string& token) override;

 private:
  void flush();
  std::string bytes_;  // of the current run
};

// The mark becomes a space; in the first token it vanishes.
class MetaspaceStage : public ForwardingStage {
 public:
  MetaspaceStage(std::unique_ptr<DecodeStage> next, std::string mark, bool drop_first)
      : ForwardingStage(std::move(next)), mark_(std::move(mark)), dropping_(drop_first) {}
  void text(std::string_view fragment) override;
  void end_token() override;

 private:
  std::string mark_;
  bool dropping_;
};

// Continuations lose their prefix, other tokens gain a space; optionally spaces before punctuation go.
class WordPieceStage : public WholeTokenStage {
 public:
  WordPieceStage(std::unique_ptr<DecodeStage> next, std::string prefix, bool cleanup)
      : WholeTokenStage(std::move(next)), prefix_(std::move(prefix)), cleanup_(cleanup) {}

 protected:
  void whole_token(std::string& token) override;

 private:
  std::string prefix_;
  bool cleanup_;
};

// The mark of a word's end becomes a space, in the last token nothing.
class WordEndStage : public WholeTokenStage {
 public:
  WordEndStage(std::unique_ptr<DecodeStage> next, std::string suffix)
      : WholeTokenStage(std::move(next)), suffix_(std::move(suffix)) {}
  void finish() override;

 protected:
  void whole_token(std::string& token) override;

 private:
  void emit(std::string_view replacement);
  std::string suffix_;
  std::optional<std::string> waiting_;  // the newest token, which may be the last
};

// Repeated tokens count once, padding vanishes, the delimiter becomes a space.
class CtcStage : public WholeTokenStage {
 public:
  CtcStage(std::unique_ptr<DecodeStage> next, std::string pad, std::string delimiter, bool cleanup)
      : WholeTokenStage(std::move(next)), pad_(std::move(pad)), delimiter_(std::move(delimiter)), cleanup_(cleanup) {}

 protected:
  void whole_token(std::string& token) override;

 private:
  std::string pad_, delimiter_;
  bool cleanup_;
  std::optional<std::string> previous_;
};

// Up to `start` leading and `stop` trailing characters of each token go, as far as they equal `content`.
class StripStage : public ForwardingStage {
 public:
  StripStage(std::unique_ptr<DecodeStage> next, char32_t content, size_t start, size_t stop);
  void text(std::string_view fragment) override;
  void end_token() override;

 private:
  std::string content_;
  size_t start_, stop_;
  size_t start_left_;  // of the current token
  size_t held_ = 0;    // copies of content at the end of the current token, at most stop_
};

class ReplaceLiteralStage : public ForwardingStage {
 public:
  ReplaceLiteralStage(std::unique_ptr<DecodeStage> next, std::string literal, std::string content)
      : ForwardingStage(std::move(next)), literal_(std::move(literal)), content_(std::move(content)) {}
  void text(std::string_view fragment) override;
  void end_token() override;

 private:
  std::string literal_, content_;
  std::string held_;  // a beginning of the literal at the end of what came
};

class ReplacePatternStage : public WholeTokenStage {
 public:
  ReplacePatternStage(std::unique_ptr<DecodeStage> next, Pattern pattern, std::string content)
      : WholeTokenStage(std::move(next)), pattern_(std::move(pattern)), content_(std::move(content)) {}

 protected:
  void whole_token(std::string& token) override;

 private:
  Pattern pattern_;
  std::string content_;
  RegexWorkspace workspace_;
};

}  // namespace ingot
