// What is thrown when the user or the world is wrong. An Error says what was found, what was needed, where and what to
// do; `Scope` adds where. What merely cannot be done is a value (`Unsupported`), and what is our own mistake an assert.
#pragma once

#include <string>

#include "base/format.h"
#include "ingot/error.h"

namespace ingot {

template <class... T>
[[noreturn]] void fail(ErrorCode code, format_string<T...> text, T&&... values) {
  throw Error(code, fmt::vformat(text, fmt::make_format_args(values...)));
}

// A breadcrumb: while it lives, errors thrown on this thread begin with its text.
class Scope {
 public:
  explicit Scope(std::string text);
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
};

// A refusal that is expected, with its reason ("needs sm_90a").
struct Unsupported {
  std::string reason;
};

// Runs `undo` at the end of the block unless released.
template <class F>
class OnExit {
 public:
  explicit OnExit(F undo) : undo_(std::move(undo)) {}
  ~OnExit() {
    if (armed_) undo_();
  }
  OnExit(const OnExit&) = delete;
  OnExit& operator=(const OnExit&) = delete;
  void release() { armed_ = false; }

 private:
  F undo_;
  bool armed_ = true;
};

}  // namespace ingot
