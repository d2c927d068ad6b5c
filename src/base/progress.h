// Progress of long work, told to whoever listens: a bar on a terminal, plain lines, JSON lines, or nobody.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace ingot {

class Progress {
 public:
  virtual ~Progress() = default;
  // Begins a phase of `total` units (0: unknown). A phase ends when the next begins or finish() is called.
  virtual void begin(std::string_view phase, uint64_t total) = 0;
  virtual void advance(uint64_t units) = 0;
  // A short remark about what is being worked on.
  virtual void note(std::string_view text) = 0;
  virtual void finish() = 0;
};

// kind: "auto" (a bar when stderr is a terminal, else none), "bar", "plain", "json" or "none". Throws a usage Error for
// another word. Everything is written to stderr.
std::unique_ptr<Progress> make_progress(std::string_view kind);

}  // namespace ingot
