#include "device/cuda/library.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "base/format.h"

namespace ingot::cuda {

namespace {
// Where toolkits and driver containers put libraries that the loader is not told of.
std::vector<std::string> folders() {
  std::vector<std::string> found;
  const auto add = [&](std::string folder) {
    if (std::find(found.begin(), found.end(), folder) == found.end()) found.push_back(std::move(folder));
  };
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    const char* root = std::getenv(variable);
    if (root && *root) add(std::string(root) + "/lib64");
  }
  for (const char* folder : {"/usr/local/cuda/lib64", "/usr/local/cuda/lib", "/usr/local/nvidia/lib64",
                             "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib", "/opt/cuda/lib64"})
    add(folder);
  return found;
}
}  // namespace

SharedLibrary::SharedLibrary(std::initializer_list<const char*> names) {
  std::string damage;
  // A file that is there but does not load (another architecture, a missing neighbour) is worth the loader's own words.
  const auto open = [&](const std::string& path) {
    handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_) return;
    const char* words = dlerror();
    if (words && damage.empty() && !std::string_view(words).ends_with("No such file or directory"))
      damage = std::string("; ") + words;
  };
  std::vector<std::string> tried;
  for (const char* name : names) {
    tried.push_back(name);
    if (!handle_) open(name);
  }
  for (const std::string& folder : folders()) {
    if (handle_) break;
    for (const char* name : names)
      if (!handle_) open(folder + "/" + name);
  }
  if (!handle_) missing_ = "tried " + join(tried) + " on the loader's path and in " + join(folders()) + damage;
}

void* SharedLibrary::symbol(const char* name) const { return handle_ ? dlsym(handle_, name) : nullptr; }

}  // namespace ingot::cuda
