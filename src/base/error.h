// What is thrown when the user or the world is wrong. An Error says what was found, what was needed, where and what to
// do; `Scope` adds where. What merely cannot be done is a value (`Unsupported`), and what is our own mistake an assert.
#pragma once

#include <stdexcept>
#include <string>

#include "base/format.h"

namespace ingot {

// The process exit code that an error leads to (docs/cli.md).
enum class ErrorCode {
  kRuntime = 1,           // the world: a file, a disk, damaged input
  kUsage = 2,             // the command or call itself is wrong
  kDoesNotFit = 3,        // out of memory or of KV cache
  kIncompatible = 4,      // an engine or cache of another version, machine or with damage
  kAccuracy = 5,          // an accuracy limit missed
  kUnsupportedModel = 6,  // an architecture or feature that no model file describes
  kVerification = 7,      // results differ from the reference
  kInterrupted = 130,
};

class Error : public std::runtime_error {
 public:
  // The message is preceded by the breadcrumbs of every live Scope of this thread, outermost first.
  Error(ErrorCode code, const std::string& message);
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

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
