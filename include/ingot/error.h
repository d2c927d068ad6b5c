// What every function of the library throws.
#pragma once

#include <stdexcept>
#include <string>

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
  // The same message under another code, for borders that classify what went wrong below them.
  Error with_code(ErrorCode code) const {
    Error copy = *this;
    copy.code_ = code;
    return copy;
  }

 private:
  ErrorCode code_;
};

}  // namespace ingot
