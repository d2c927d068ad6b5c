// SentencePiece's precompiled character map: a double-array trie from byte strings to places in a list of
// zero-terminated replacements, stored as base64 of [trie bytes: u32][trie][replacements].
#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "base/error.h"
#include "text/normalizers.h"
#include "text/pattern.h"
#include "text/unicode.h"

namespace ingot {

namespace {

std::string decode_base64(std::string_view text) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::array<int8_t, 256> values;
  values.fill(-1);
  for (size_t i = 0; i < kAlphabet.size(); ++i)
    values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<int8_t>(i);
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  bytes.reserve(text.size() * 3 / 4);
  uint32_t bits = 0;
  int count = 0;
  for (char c : text) {
    int value = values[static_cast<unsigned char>(c)];
    if (value < 0) fail(ErrorCode::kRuntime, "precompiled_charsmap is not base64");
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count >= 8) bytes += static_cast<char>(bits >> (count -= 8));
  }
  return bytes;
}

// The units of the trie are those of the Darts-clone library: label, leaf flag and offset packed into 32 bits.
class CharacterMap {
 public:
  explicit CharacterMap(std::string_view bytes) {
    uint32_t trie_bytes = 0;
    if (bytes.size() >= 4) std::memcpy(&trie_bytes, bytes.data(), 4);
    if (bytes.size() < 4 || trie_bytes > bytes.size() - 4 || trie_bytes % 4 != 0 || trie_bytes == 0)
      fail(ErrorCode::kRuntime, "precompiled_charsmap of {} bytes holds a trie of {} bytes", bytes.size(), trie_bytes);
    units_.resize(trie_bytes / 4);
    std::memcpy(units_.data(), bytes.data() + 4, trie_bytes);
    replacements_ = bytes.substr(4 + trie_bytes);
    if (!is_valid_utf8(replacements_)) fail(ErrorCode::kRuntime, "precompiled_charsmap holds text that is not UTF-8");
  }

  // What replaces `text`, if the map knows the text or a beginning of it; the shortest known beginning decides.
  std::optional<std::string_view> find(std::string_view text) const {
    size_t node = offset(units_[0]);
    for (char c : text) {
      auto byte = static_cast<unsigned char>(c);
      node ^= byte;
      if (byte == 0 || node >= units_.size()) return std::nullopt;
      uint32_t unit = units_[node];
      if ((unit & 0x800000FFu) != byte) return std::nullopt;
      node ^= offset(unit);
      if (unit >> 8 & 1) return node < units_.size() ? replacement(units_[node] & 0x7FFFFFFFu) : std::nullopt;
    }
    return std::nullopt;
  }

 private:
  static size_t offset(uint32_t unit) { return static_cast<size_t>(unit >> 10) << ((unit & 0x200u) >> 6); }

  std::optional<std::string_view> replacement(size_t begin) const {
    if (begin > replacements_.size()) return std::nullopt;
    bool inside = begin < replacements_.size() && (replacements_[begin] & 0xC0) == 0x80;
    if (inside) return std::nullopt;  // a damaged map: never cut a character
    size_t end = std::min(replacements_.find('\0', begin), replacements_.size());
    return std::string_view(replacements_).substr(begin, end - begin);
  }

  std::vector<uint32_t> units_;
  std::string replacements_;
};

class PrecompiledNormalizer : public Normalizer {
 public:
  explicit PrecompiledNormalizer(std::string_view bytes) : map_(bytes) {}

  void normalize(NormalizedText& value, RegexWorkspace&) const override {
    std::string_view text = value.text;
    std::string result;
    result.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
      size_t end = grapheme_end(text, at);
      append_grapheme(result, text.substr(at, end - at));
      check_growth(text.size(), result.size());
      at = end;
    }
    value.text = std::move(result);
  }

 private:
  static constexpr size_t kMaxWholeBytes = 5;  // longer graphemes are mapped character by character

  void append_grapheme(std::string& result, std::string_view grapheme) const {
    if (grapheme.size() <= kMaxWholeBytes) {
      if (auto mapped = map_.find(grapheme)) {
        result += *mapped;
        return;
      }
    }
    for (size_t at = 0; at < grapheme.size();) {
      std::string_view one = grapheme.substr(at, utf8_length(static_cast<unsigned char>(grapheme[at])));
      auto mapped = map_.find(one);
      result += mapped ? *mapped : one;
      at += one.size();
    }
  }

  CharacterMap map_;
};

// Without a map the normalizer does nothing.
class NoNormalizer : public Normalizer {
 public:
  void normalize(NormalizedText&, RegexWorkspace&) const override {}
};

}  // namespace

std::unique_ptr<const Normalizer> make_precompiled_normalizer(const Json& json) {
  const Json* map = json.find_set("precompiled_charsmap");
  if (!map || map->as_string().empty()) return std::make_unique<NoNormalizer>();
  return std::make_unique<PrecompiledNormalizer>(decode_base64(map->as_string()));
}

}  // namespace ingot
