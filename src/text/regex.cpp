#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/error.h"
#include "text/regex_syntax.h"
#include "text/unicode.h"

namespace ingot {

namespace {

// A hostile pattern may ask for exponentially many steps; ordinary ones stay thousands of times below these.
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr uint32_t kHeapLimitKib = 256 * 1024;
constexpr size_t kStackBytes = 32 * 1024, kMaxStackBytes = 8 * 1024 * 1024;
constexpr size_t kMaxPatternBytes = 64 * 1024;

std::string error_text(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

template <auto F>
struct Free {
  template <class T>
  void operator()(T* object) const {
    F(object);
  }
};

}  // namespace

struct RegexWorkspace::Parts {
  std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>> context;
  std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>> match;
  std::unique_ptr<pcre2_jit_stack, Free<pcre2_jit_stack_free>> stack;
};

RegexWorkspace::RegexWorkspace() : parts_(std::make_unique<Parts>()) {
  parts_->context.reset(pcre2_match_context_create(nullptr));
  parts_->match.reset(pcre2_match_data_create(1, nullptr));
  if (!parts_->context || !parts_->match) throw std::bad_alloc();
  pcre2_set_match_limit(parts_->context.get(), kMatchLimit);
  pcre2_set_heap_limit(parts_->context.get(), kHeapLimitKib);
  parts_->stack.reset(pcre2_jit_stack_create(kStackBytes, kMaxStackBytes, nullptr));
  if (parts_->stack) pcre2_jit_stack_assign(parts_->context.get(), nullptr, parts_->stack.get());
}

RegexWorkspace::~RegexWorkspace() = default;

struct Regex::Code {
  std::unique_ptr<pcre2_code, Free<pcre2_code_free>> compiled;
  std::string pattern;
};

Regex Regex::from_pcre2(const std::string& pattern) {
  if (pattern.size() > kMaxPatternBytes)
    fail(ErrorCode::kRuntime, "a regular expression of {} bytes; at most {} are accepted", pattern.size(),
         kMaxPatternBytes);
  std::unique_ptr<pcre2_compile_context, Free<pcre2_compile_context_free>> context(
      pcre2_compile_context_create(nullptr));
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_bsr(context.get(), PCRE2_BSR_UNICODE);
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto code = std::make_shared<Code>();
  code->pattern = pattern;
  code->compiled.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset,
                                     context.get()));
  if (!code->compiled)
    fail(ErrorCode::kRuntime, "the regular expression {} is not valid: {} (at byte {})", pattern, error_text(error),
         offset);
  pcre2_jit_compile(code->compiled.get(), PCRE2_JIT_COMPLETE);  // without it matching works, only slower
  Regex regex;
  regex.code_ = std::move(code);
  return regex;
}

Regex Regex::from_oniguruma(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes)
    fail(ErrorCode::kRuntime, "a regular expression of {} bytes; at most {} are accepted", pattern.size(),
         kMaxPatternBytes);
  return from_pcre2(pcre2_from_oniguruma(pattern));
}

std::optional<TextRange> Regex::find(RegexWorkspace& workspace, std::string_view text, size_t start) const {
  auto& parts = *workspace.parts_;
  auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int result = pcre2_match(code_->compiled.get(), subject, text.size(), start, PCRE2_NO_UTF_CHECK, parts.match.get(),
                           parts.context.get());
  if (result == PCRE2_ERROR_JIT_STACKLIMIT)
    result = pcre2_match(code_->compiled.get(), subject, text.size(), start, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         parts.match.get(), parts.context.get());
  if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (result < 0)
    fail(ErrorCode::kRuntime, "the regular expression {} failed on a text of {} bytes: {}", code_->pattern, text.size(),
         error_text(result));
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(parts.match.get());
  // \K in a look-around can put the start behind the end.
  return TextRange{std::min(bounds[0], bounds[1]), bounds[1]};
}

std::optional<TextRange> RegexMatches::next() {
  while (position_ <= text_.size()) {
    auto match = regex_.find(workspace_, text_, position_);
    if (!match) break;
    bool again = match->begin == match->end && match->end == last_end_;
    if (again) {
      if (position_ == text_.size()) break;
      position_ += utf8_length(static_cast<unsigned char>(text_[position_]));
      continue;
    }
    position_ = last_end_ = match->end;
    return match;
  }
  position_ = text_.size() + 1;
  return std::nullopt;
}

}  // namespace ingot
