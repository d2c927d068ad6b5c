// The runs that a device has been given and that are not known to have ended. What fails on a GPU is told late, to
// whoever waits or asks next: so the error is told to be of these runs, and not of the step at hand.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/loaded_engine.h"

namespace ingot {

class RunsUnderWay {
 public:
  // A run of this program has begun, behind all others; its number. The program must live as long as this.
  uint64_t begin(const ResolvedProgram& program);
  uint64_t last() const { return last_; }
  // This run and all before it have ended.
  void ended(uint64_t number);
  // "a step of program 0 (main, tokens 1..1) or of program 2 (main, tokens 3..8)"
  std::string text() const;

  // Calls `wait`, which waits for the device. Its Error begins with text(): a device that has failed says so each time
  // that it is asked.
  template <class F>
  void name_failures(F&& wait) const {
    try {
      wait();
    } catch (const Error&) {
      Scope scope(text());
      wait();
      throw;
    }
  }

 private:
  // Of each program, its last run.
  struct Run {
    const ResolvedProgram* program;
    uint64_t number;
  };
  std::vector<Run> runs_;  // the latest last
  uint64_t last_ = 0;
};

}  // namespace ingot
