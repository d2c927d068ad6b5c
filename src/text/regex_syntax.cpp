// Where the two languages differ:
//   \s \w \b, [[:alpha:]], \p{Alpha}  other sets of characters          \h  a hexadecimal digit     \v  U+000B
//   \p{Greek}                         a script, not its extensions      (?m)  dot matches newline
//   x{1,3}+                           repeats the repetition; PCRE2 would take it as possessive
//   x{2}?                             optional, not lazy                x{,3}  means x{0,3}; PCRE2 takes it literally
//   [a[bc]] [a-z&&[^aeiou]]           union and intersection of classes; rebuilt from look-ahead
#include "text/regex_syntax.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "text/unicode.h"

namespace ingot {

namespace {

constexpr std::string_view kNotSpaceItems =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}"
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}";
// Outside of [...] Oniguruma counts the superscripts and fractions of Latin-1 to words.
constexpr std::string_view kLoneWordItems = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";
constexpr std::string_view kHexItems = "0-9A-Fa-f";
constexpr std::string_view kAnyCharacter = "(?s:.)";

using NamedItems = std::pair<std::string_view, std::string_view>;

// Property and POSIX names in lower case without separators, and what they are inside [...].
constexpr auto kProperties = std::to_array<NamedItems>({
    {"alnum", "\\p{Alphabetic}\\p{Nd}"},
    {"alpha", "\\p{Alphabetic}"},
    {"alphabetic", "\\p{Alphabetic}"},
    {"any", "\\x{0}-\\x{10ffff}"},
    {"ascii", "\\x{0}-\\x{7f}"},
    {"assigned", "\\P{Cn}"},
    {"blank", "\\x{9}\\p{Zs}"},
    {"casedletter", "\\p{L&}"},
    {"closepunctuation", "\\p{Pe}"},
    {"cntrl", "\\p{Cc}"},
    {"connectorpunctuation", "\\p{Pc}"},
    {"control", "\\p{Cc}"},
    {"currencysymbol", "\\p{Sc}"},
    {"dashpunctuation", "\\p{Pd}"},
    {"decimalnumber", "\\p{Nd}"},
    {"digit", "\\p{Nd}"},
    {"emoji", "\\p{Emoji}"},
    {"enclosingmark", "\\p{Me}"},
    {"extendedpictographic", "\\p{Extended_Pictographic}"},
    {"finalpunctuation", "\\p{Pf}"},
    {"format", "\\p{Cf}"},
    {"initialpunctuation", "\\p{Pi}"},
    {"letter", "\\p{L}"},
    {"letternumber", "\\p{Nl}"},
    {"lineseparator", "\\p{Zl}"},
    {"lower", "\\p{Lowercase}"},
    {"lowercase", "\\p{Lowercase}"},
    {"lowercaseletter", "\\p{Ll}"},
    {"mark", "\\p{M}"},
    {"mathsymbol", "\\p{Sm}"},
    {"modifierletter", "\\p{Lm}"},
    {"modifiersymbol", "\\p{Sk}"},
    {"nonspacingmark", "\\p{Mn}"},
    {"number", "\\p{N}"},
    {"openpunctuation", "\\p{Ps}"},
    {"other", "\\p{C}"},
    {"otherletter", "\\p{Lo}"},
    {"othernumber", "\\p{No}"},
    {"otherpunctuation", "\\p{Po}"},
    {"othersymbol", "\\p{So}"},
    {"paragraphseparator", "\\p{Zp}"},
    {"privateuse", "\\p{Co}"},
    {"punct", "\\p{P}\\p{S}"},
    {"punctuation", "\\p{P}"},
    {"separator", "\\p{Z}"},
    {"space", kSpaceItems},
    {"spaceseparator", "\\p{Zs}"},
    {"spacingmark", "\\p{Mc}"},
    {"symbol", "\\p{S}"},
    {"titlecaseletter", "\\p{Lt}"},
    {"unassigned", "\\p{Cn}"},
    {"upper", "\\p{Uppercase}"},
    {"uppercase", "\\p{Uppercase}"},
    {"uppercaseletter", "\\p{Lu}"},
    {"whitespace", kSpaceItems},
    {"word", kWordItems},
    {"xdigit", kHexItems},
});

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// A set of characters: items for inside [...], or their complement.
struct CharacterSet {
  std::string items;
  bool negated = false;
  std::string alone() const { return (negated ? "[^" : "[") + items + "]"; }
};

CharacterSet property_set(std::string_view name, bool negated) {
  std::string plain;
  for (char c : name) {
    if (c == '^' && plain.empty())
      negated = !negated;
    else if (c != ' ' && c != '_' && c != '-')
      plain += is_letter(c) ? static_cast<char>(c | 0x20) : c;
  }
  auto known = std::find_if(kProperties.begin(), kProperties.end(), [&](auto& entry) { return entry.first == plain; });
  if (known != kProperties.end()) return {std::string(known->second), negated};
  constexpr std::string_view kInvisible = "\\p{Zl}\\p{Zp}\\p{Cc}\\p{Cn}\\p{Cs}";
  if (plain == "print") return {std::string(kInvisible), !negated};
  if (plain == "graph") return {std::string(kInvisible) + "\\p{Zs}", !negated};
  bool category =
      plain.size() <= 2 && !plain.empty() && std::string_view("lmnpszc").find(plain[0]) != std::string::npos;
  if (category) {
    plain[0] = static_cast<char>(plain[0] & ~0x20);
    return {"\\p{" + plain + "}", negated};
  }
  return {"\\p{sc:" + plain + "}", negated};
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  std::string run() {
    while (at_ < in_.size()) one();
    return std::move(out_);
  }

 private:
  static constexpr size_t kNothing = std::string::npos;

  bool next_is(std::string_view text) const { return in_.substr(at_).starts_with(text); }

  [[noreturn]] void refuse(std::string_view what) const {
    fail(ErrorCode::kRuntime, "the regular expression {} uses {} at byte {}, which is not supported", std::string(in_),
         std::string(what), at_);
  }

  void atom(std::string_view text) {
    atom_ = out_.size();
    quantified_ = false;
    out_ += text;
  }

  void one() {
    switch (in_[at_]) {
      case '\\':
        return escape();
      case '[':
        return atom(character_class());
      case '(':
        return open_group();
      case ')':
        ++at_;
        out_ += ')';
        atom_ = groups_.empty() ? kNothing : groups_.back();
        if (!groups_.empty()) groups_.pop_back();
        quantified_ = false;
        return;
      case '|':
        ++at_;
        out_ += '|';
        atom_ = kNothing;
        return;
      case '*':
      case '+':
      case '?': {
        std::string text(1, in_[at_++]);
        if (next_is("?") || next_is("+")) text += in_[at_++];
        return quantifier(text);
      }
      case '{':
        return interval();
      default: {
        size_t size = std::min(utf8_length(static_cast<unsigned char>(in_[at_])), in_.size() - at_);
        atom(in_.substr(at_, size));
        at_ += size;
      }
    }
  }

  void quantifier(std::string_view text) {
    if (atom_ != kNothing && quantified_) {  // a quantifier of a quantified atom
      out_.insert(atom_, "(?:");
      out_ += ')';
    }
    out_ += text;
    quantified_ = true;
  }

  // {n} {n,} {,m} {n,m}; anything else is literal.
  void interval() {
    size_t i = at_ + 1;
    auto number = [&] {
      size_t begin = i;
      while (i < in_.size() && is_digit(in_[i])) ++i;
      return std::string(in_.substr(begin, i - begin));
    };
    std::string low = number(), high = low;
    bool range = i < in_.size() && in_[i] == ',';
    if (range) {
      ++i;
      high = number();
    }
    bool valid = i < in_.size() && in_[i] == '}' && !(low.empty() && high.empty()) && atom_ != kNothing;
    if (!valid) {
      ++at_;
      return atom("\\{");
    }
    at_ = i + 1;
    std::string text = "{" + (low.empty() ? "0" : low) + (range ? "," + high : "") + "}";
    if (range && next_is("?")) {
      text += '?';
      ++at_;
    }
    quantifier(text);
  }

  void open_group() {
    if (next_is("(?#")) {
      size_t end = in_.find(')', at_);
      at_ = end == std::string_view::npos ? in_.size() : end + 1;
      return;
    }
    if (next_is("(?~")) refuse("an absent operator");
    groups_.push_back(out_.size());
    atom_ = kNothing;
    out_ += '(';
    ++at_;
    if (!next_is("?")) return;
    out_ += '?';
    ++at_;
    bool named = next_is("<") && !next_is("<=") && !next_is("<!");
    if (named || next_is("'")) {
      char close = next_is("<") ? '>' : '\'';
      do out_ += in_[at_++];
      while (at_ < in_.size() && in_[at_] != close);
      return;
    }
    while (at_ < in_.size() && (is_letter(in_[at_]) || in_[at_] == '-')) {
      out_ += in_[at_] == 'm' ? 's' : in_[at_];
      ++at_;
    }
    if (at_ < in_.size() && std::string_view(":=!>").find(in_[at_]) != std::string_view::npos) {
      out_ += in_[at_++];
    } else if (next_is("<=") || next_is("<!")) {
      out_ += in_.substr(at_, 2);
      at_ += 2;
    }
  }

  // --- escapes ----------------------------------------------------------------------------------------------------

  // The set that an escape stands for (\s \w \d \h \p{…} and their complements), if it is one; moves behind it.
  std::optional<CharacterSet> set_escape(std::string_view word_items) {
    char kind = in_[at_ + 1];
    auto take = [&](std::string_view items, bool negated) {
      at_ += 2;
      return CharacterSet{std::string(items), negated};
    };
    switch (kind) {
      case 's':
        return take(kSpaceItems, false);
      case 'S':
        return take(kNotSpaceItems, false);
      case 'w':
      case 'W':
        return take(word_items, kind == 'W');
      case 'd':
      case 'D':
        return take("\\p{Nd}", kind == 'D');
      case 'h':
      case 'H':
        return take(kHexItems, kind == 'H');
      case 'p':
      case 'P':
        break;
      default:
        return std::nullopt;
    }
    size_t end = in_.find('}', at_);
    if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{' || end == std::string_view::npos) refuse("\\p without {name}");
    CharacterSet set = property_set(in_.substr(at_ + 3, end - at_ - 3), kind == 'P');
    at_ = end + 1;
    return set;
  }

  // The code point that an escape stands for, if it is written as a number or a letter; moves behind it.
  std::optional<char32_t> code_escape() {
    char kind = in_[at_ + 1];
    constexpr std::string_view kLetters = "tnrfvae", kCodes = "\t\n\r\f\v\a\x1B";
    if (size_t i = kLetters.find(kind); i != std::string_view::npos) {
      at_ += 2;
      return static_cast<char32_t>(kCodes[i]);
    }
    bool octal = kind == '0';
    if (kind != 'x' && kind != 'u' && !octal) return std::nullopt;
    size_t i = at_ + 2;
    bool braces = kind == 'x' && i < in_.size() && in_[i] == '{';
    size_t limit = braces ? 8 : kind == 'u' ? 4 : 2;
    if (braces) ++i;
    char32_t code = 0;
    for (size_t digits = 0; digits < limit && i < in_.size() && is_hex(in_[i]); ++digits, ++i) {
      int digit = is_digit(in_[i]) ? in_[i] - '0' : (in_[i] | 0x20) - 'a' + 10;
      if (octal && digit > 7) break;
      code = code * (octal ? 8 : 16) + static_cast<char32_t>(digit);
    }
    if (braces && (i == in_.size() || in_[i++] != '}')) refuse("an unfinished \\x{…}");
    if (code > 0x10FFFF) refuse("a number beyond U+10FFFF");
    at_ = i;
    return code;
  }

  static std::string code_text(char32_t code) { return format("\\x{{{:x}}}", static_cast<uint32_t>(code)); }

  void escape() {
    if (at_ + 1 == in_.size()) refuse("a single \\ at its end,");
    if (auto set = set_escape(kLoneWordItems)) return atom(set->alone());
    if (auto code = code_escape()) return atom(code_text(*code));
    char kind = in_[at_ + 1];
    if (kind == 'b' || kind == 'B') {
      const std::string word = "[" + std::string(kLoneWordItems) + "]";
      const char* second = kind == 'b' ? "!" : "=";
      const char* fourth = kind == 'b' ? "=" : "!";
      atom("(?:(?<=" + word + ")(?" + second + word + ")|(?<!" + word + ")(?" + fourth + word + "))");
    } else if (kind == 'O') {
      atom(kAnyCharacter);
    } else if (kind == 'N') {
      atom("[^\\n]");
    } else if (kind == 'k' || kind == 'g') {
      size_t end = in_.find(kind == 'k' || next_is("\\g<") ? '>' : '\'', at_);
      if (end == std::string_view::npos) refuse("an unfinished reference");
      atom(in_.substr(at_, end + 1 - at_));
      at_ = end + 1;
      return;
    } else if (std::string_view("yYcCM").find(kind) != std::string_view::npos) {
      refuse(std::string("\\") + kind);
    } else if (std::string_view("AzZGRXK").find(kind) != std::string_view::npos || is_digit(kind)) {
      atom(in_.substr(at_, 2));
    } else if (is_letter(kind)) {
      atom(in_.substr(at_ + 1, 1));  // an unknown letter stands for itself
    } else {
      size_t size = std::min(utf8_length(static_cast<unsigned char>(kind)), in_.size() - at_ - 1);
      atom(is_ascii(in_.substr(at_ + 1, size)) ? in_.substr(at_, 2) : in_.substr(at_ + 1, size));
      at_ += 1 + size;
      return;
    }
    at_ += 2;
  }

  // --- character classes ------------------------------------------------------------------------------------------

  // One operand of &&: a union of items and of expressions that each match one character.
  struct Operand {
    std::string items;
    std::vector<std::string> expressions;
    std::string text() const {
      if (expressions.empty()) return items.empty() ? "(?!)" : "[" + items + "]";
      if (items.empty() && expressions.size() == 1) return expressions[0];
      std::string all = items.empty() ? "(?:" : "(?:[" + items + "]|";
      return all + join(expressions, "|") + ")";
    }
    void add(const CharacterSet& set) {
      if (!set.negated)
        items += set.items;
      else if (set.items.starts_with("\\p{") && set.items.find('\\', 1) == std::string::npos)
        items += "\\P" + set.items.substr(2);
      else
        expressions.push_back(set.alone());
    }
  };

  std::string character_class() {
    if (++depth_ > kMaxDepth) refuse("classes nested too deeply");
    ++at_;
    bool negated = next_is("^");
    if (negated) ++at_;
    std::vector<Operand> operands(1);
    for (bool first = true; !next_is("]") || first; first = false) {
      if (at_ >= in_.size()) refuse("a character class without ]");
      if (next_is("&&")) {
        at_ += 2;
        operands.emplace_back();
      } else {
        class_item(operands.back());
      }
    }
    ++at_;
    --depth_;
    return combine(operands, negated);
  }

  static std::string combine(const std::vector<Operand>& operands, bool negated) {
    if (operands.size() == 1 && operands[0].expressions.empty() && !operands[0].items.empty())
      return (negated ? "[^" : "[") + operands[0].items + "]";
    std::string all;
    for (size_t i = 0; i + 1 < operands.size(); ++i) all += "(?=" + operands[i].text() + ")";
    all += operands.back().text();
    if (negated) return "(?:(?!" + all + ")" + std::string(kAnyCharacter) + ")";
    return operands.size() == 1 ? all : "(?:" + all + ")";
  }

  void class_item(Operand& operand) {
    if (next_is("[:")) {
      size_t end = in_.find(":]", at_);
      if (end != std::string_view::npos && end - at_ < 20) {
        operand.add(property_set(in_.substr(at_ + 2, end - at_ - 2), false));
        at_ = end + 2;
        return hyphen_after_set(operand);
      }
    }
    if (next_is("[")) {
      operand.expressions.push_back(character_class());
      return hyphen_after_set(operand);
    }
    if (!next_is("\\")) {
      size_t size = std::min(utf8_length(static_cast<unsigned char>(in_[at_])), in_.size() - at_);
      if (next_is("]")) operand.items += '\\';
      operand.items += in_.substr(at_, size);
      at_ += size;
      return;
    }
    if (at_ + 1 == in_.size()) refuse("a single \\ at its end,");
    if (auto set = set_escape(kWordItems)) {
      operand.add(*set);
      return hyphen_after_set(operand);
    }
    if (auto code = code_escape()) {
      operand.items += code_text(*code);
      return;
    }
    char kind = in_[at_ + 1];
    if (kind == 'b') {
      operand.items += "\\x{8}";
    } else if (is_letter(kind)) {
      operand.items += kind;
    } else if (is_digit(kind) || std::string_view("RXcCM").find(kind) != std::string_view::npos) {
      refuse(std::string("\\") + kind + " in a class");
    } else {
      size_t size = std::min(utf8_length(static_cast<unsigned char>(kind)), in_.size() - at_ - 1);
      if (size == 1) operand.items += '\\';
      operand.items += in_.substr(at_ + 1, size);
      at_ += 1 + size;
      return;
    }
    at_ += 2;
  }

  // A hyphen behind a set is itself; the items of the set must not become the beginning of a range.
  void hyphen_after_set(Operand& operand) {
    if (!next_is("-") || next_is("-]")) return;
    operand.items += "\\-";
    ++at_;
  }

  static constexpr int kMaxDepth = 32;

  std::string_view in_;
  size_t at_ = 0;
  std::string out_;
  size_t atom_ = kNothing;  // where in out_ the last atom begins
  bool quantified_ = false;
  std::vector<size_t> groups_;
  int depth_ = 0;
};

}  // namespace

std::string pcre2_from_oniguruma(std::string_view pattern) { return Translator(pattern).run(); }

std::string quote_pattern(std::string_view text) {
  std::string quoted;
  for (char c : text) {
    bool plain = static_cast<unsigned char>(c) >= 0x80 || is_letter(c) || is_digit(c);
    if (c == '\0')
      quoted += "\\x{0}";
    else
      quoted += plain ? std::string(1, c) : std::string{'\\', c};
  }
  return quoted;
}

}  // namespace ingot
