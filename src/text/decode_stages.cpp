#include "text/decode_stages.h"

#include <array>

#include "base/error.h"
#include "text/byte_level.h"
#include "text/unicode.h"

namespace ingot {

namespace {

// A chain of stages that each lengthen their tokens could ask for any amount of memory.
void check_fragment(size_t before, size_t now) {
  constexpr size_t kMaxGrownBytes = 16 << 20;
  if (now > before && now > kMaxGrownBytes)
    fail(ErrorCode::kRuntime, "the decoder makes {} bytes out of a token; the tokenizer is damaged", now);
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  if (from.empty()) {  // between all characters
    for (size_t at = 0; at < text.size();) {
      size_t size = utf8_length(static_cast<unsigned char>(text[at]));
      result += to;
      result += text.substr(at, size);
      check_fragment(text.size(), result.size());
      at += size;
    }
    return result += to;
  }
  size_t done = 0;
  for (size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, done)) {
    result += text.substr(done, at - done);
    result += to;
    check_fragment(text.size(), result.size());
    done = at + from.size();
  }
  return result += text.substr(done);
}

// The English rules that word-piece models were published with, in their order.
std::string clean_up_spaces(std::string text) {
  static constexpr auto kRules = std::to_array<std::pair<std::string_view, std::string_view>>({
      {" .", "."},
      {" ?", "?"},
      {" !", "!"},
      {" ,", ","},
      {" ' ", "'"},
      {" n't", "n't"},
      {" 'm", "'m"},
      {" do not", " don't"},
      {" 's", "'s"},
      {" 've", "'ve"},
      {" 're", "'re"},
  });
  for (auto [from, to] : kRules)
    if (text.find(from) != std::string::npos) text = replace_all(text, from, to);
  return text;
}

// The byte that a token like <0x0A> stands for, or -1.
int fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with('>')) return -1;
  // One sign is read as a number is read elsewhere: "+A" is ten.
  std::string_view digits = token.substr(3, 2);
  if (digits[0] == '+') digits.remove_prefix(1);
  int value = 0;
  for (char c : digits) {
    int digit = c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

}  // namespace

void JoinStage::whole_token(std::string& token) {
  if (index_ > 0) next_->text(" ");
  next_->token(token);
}

void FuseStage::finish() {
  next_->end_token();
  next_->finish();
}

void ByteLevelStage::whole_token(std::string& token) {
  append_character_bytes(bytes_, token);
  // At most the last three bytes can be an unfinished character.
  size_t complete = bytes_.size();
  for (size_t back = 1; back <= 3 && back <= bytes_.size(); ++back) {
    size_t at = bytes_.size() - back;
    if ((bytes_[at] & 0xC0) == 0x80) continue;
    if (classify_utf8(bytes_, at).kind == Utf8Piece::kIncomplete) complete = at;
    break;
  }
  std::string text;
  append_repaired_utf8(text, std::string_view(bytes_).substr(0, complete));
  bytes_.erase(0, complete);
  if (!text.empty()) next_->text(text);
}

void ByteLevelStage::finish() {
  std::string text;
  append_repaired_utf8(text, bytes_);
  bytes_.clear();
  next_->token(text);
  next_->finish();
}

void ByteFallbackStage::whole_token(std::string& token) {
  int byte = fallback_byte(token);
  if (byte >= 0) {
    bytes_ += static_cast<char>(byte);
    return;
  }
  flush();
  next_->token(token);
}

void ByteFallbackStage::flush() {
  if (bytes_.empty()) return;
  if (is_valid_utf8(bytes_)) {
    next_->token(bytes_);
  } else {
    for (size_t i = 0; i < bytes_.size(); ++i) next_->token(kReplacementCharacter);
  }
  bytes_.clear();
}

void ByteFallbackStage::finish() {
  flush();
  next_->finish();
}

void MetaspaceStage::text(std::string_view fragment) {
  next_->text(replace_all(fragment, mark_, dropping_ ? "" : " "));
}

void MetaspaceStage::end_token() {
  dropping_ = false;
  next_->end_token();
}

void WordPieceStage::whole_token(std::string& token) {
  if (index_ > 0) {
    if (token.starts_with(prefix_))
      token.erase(0, prefix_.size());
    else
      token.insert(0, " ");
  }
  next_->token(cleanup_ ? clean_up_spaces(token) : token);
}

void WordEndStage::whole_token(std::string& token) {
  emit(" ");
  waiting_ = token;
}

void WordEndStage::emit(std::string_view replacement) {
  if (waiting_) next_->token(replace_all(*waiting_, suffix_, replacement));
  waiting_.reset();
}

void WordEndStage::finish() {
  emit("");
  next_->finish();
}

void CtcStage::whole_token(std::string& token) {
  if (previous_ == token) return;
  previous_ = token;
  std::string text = replace_all(token, pad_, "");
  if (cleanup_) text = replace_all(clean_up_spaces(text), delimiter_, " ");
  if (!text.empty()) next_->token(text);
}

StripStage::StripStage(std::unique_ptr<DecodeStage> next, char32_t content, size_t start, size_t stop)
    : ForwardingStage(std::move(next)), start_(start), stop_(stop), start_left_(start) {
  append_character(content_, content);
}

void StripStage::text(std::string_view fragment) {
  while (start_left_ > 0 && !fragment.empty()) {
    if (fragment.starts_with(content_)) {
      fragment.remove_prefix(content_.size());
      --start_left_;
    } else {
      start_left_ = 0;
    }
  }
  if (fragment.empty()) return;
  size_t trailing = 0, end = fragment.size();
  while (trailing < stop_ && fragment.substr(0, end).ends_with(content_)) {
    end -= content_.size();
    ++trailing;
  }
  // What was held stays at the end only if all of this fragment is content too.
  size_t keep = end == 0 ? std::min(stop_, held_ + trailing) : trailing;
  for (size_t release = end == 0 ? held_ + trailing - keep : held_; release > 0; --release) next_->text(content_);
  if (end > 0) next_->text(fragment.substr(0, end));
  held_ = keep;
}

void StripStage::end_token() {
  held_ = 0;
  start_left_ = start_;
  next_->end_token();
}

void ReplaceLiteralStage::text(std::string_view fragment) {
  std::string all = std::move(held_);
  all += fragment;
  std::string result;
  size_t done = 0;
  for (size_t at = all.find(literal_); at != std::string::npos; at = all.find(literal_, done)) {
    result.append(all, done, at - done);
    result += content_;
    check_fragment(all.size(), result.size());
    done = at + literal_.size();
  }
  size_t held = std::min(literal_.size() - 1, all.size() - done);
  while (held > 0 && !std::string_view(literal_).starts_with(std::string_view(all).substr(all.size() - held))) --held;
  result.append(all, done, all.size() - held - done);
  held_ = all.substr(all.size() - held);
  if (!result.empty()) next_->text(result);
}

void ReplaceLiteralStage::end_token() {
  if (!held_.empty()) next_->text(held_);
  held_.clear();
  next_->end_token();
}

void ReplacePatternStage::whole_token(std::string& token) {
  std::string text = pattern_.replace(workspace_, token, content_);
  check_fragment(token.size(), text.size());
  next_->token(text);
}

}  // namespace ingot
