// Device code as text that NVRTC compiles for an engine: the .cuh files of this folder are part of the binary.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"

namespace ingot {

// A file of this folder by the name that other files include it by ("device/prelude.cuh"). In order of their names.
struct DeviceCodeFile {
  std::string_view name, text;
};
std::span<const DeviceCodeFile> device_code_files();
// Makes one more file known to this process under a name that none has, for tests.
void add_device_code(std::string name, std::string text);

// One translation unit: a .cuh file of tactics/cuda ("rms_norm.cuh") behind #defines. Equal modules have equal names.
struct DeviceModule {
  std::string file;
  std::vector<std::string> defines;  // "HIDDEN=4096", in the order given
  std::string arch;                  // "sm_90a"

  // 16 hexadecimal digits that stand for the text of the file and of all it includes, the defines, the architecture
  // and the options of the compiler (not its version: that is part of the target).
  std::string name() const;
  bool operator==(const DeviceModule&) const = default;
};

// The names of a file and of all it includes, sorted.
std::vector<std::string_view> device_code_closure(std::string_view file);
// The hash of a file and of all it includes (8 digits): what a tactic source reports as its version.
std::string device_code_version(std::string_view file);

// "13.0" when NVRTC can be opened, else "" and why_no_compiler() says what was tried.
std::string compiler_version();
std::string why_no_compiler();

// The cubin of a module. Throws an Error with the compiler's log when it does not compile (our mistake), and one with
// ErrorCode::kIncompatible when there is no NVRTC. Safe to call from several threads; results are kept in memory.
std::shared_ptr<const std::vector<std::byte>> compile_module(const DeviceModule& module);

// Compiles modules side by side; the first failure is thrown.
void compile_all(std::span<const DeviceModule> modules, ThreadPool& threads);

// What the compiler said of a function of a cubin: registers, spilled bytes, shared memory; for tests and reports.
std::string compiler_log(const DeviceModule& module);

}  // namespace ingot
