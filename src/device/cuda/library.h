// A shared library opened at run time, so that one binary serves machines with and without it.
#pragma once

#include <initializer_list>
#include <string>

namespace ingot::cuda {

class SharedLibrary {
 public:
  // Tries the names in order ("libcuda.so.1"), first as the loader finds them, then in the usual folders of a CUDA
  // toolkit. Never throws: ok() tells, and missing() says what was tried.
  explicit SharedLibrary(std::initializer_list<const char*> names);
  bool ok() const { return handle_ != nullptr; }
  const std::string& missing() const { return missing_; }
  // nullptr when there is no such symbol.
  void* symbol(const char* name) const;

 private:
  void* handle_ = nullptr;  // stays open for the life of the process
  std::string missing_;
};

}  // namespace ingot::cuda
