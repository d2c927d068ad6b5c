#include "tactics/cuda/device_code.h"

#include <algorithm>
#include <deque>
#include <future>
#include <map>
#include <mutex>

#include "base/error.h"
#include "base/hash.h"
#include "device/cuda/library.h"
#include "tactics/cuda/nvrtc_api.h"

namespace ingot {

namespace {
// Part of every module's name. Nothing here may bring paths or times into a cubin.
constexpr const char* kOptions[] = {"--std=c++17", "--device-as-default-execution-space", "--ptxas-options=-v"};
constexpr const char* kProgramName = "ingot.cu";

// What add_device_code() was given; a deque, so that references stay good.
struct Added {
  std::mutex mutex;
  std::deque<std::pair<std::string, std::string>> texts;
  std::deque<DeviceCodeFile> files;
};
Added& added() {
  static Added added;
  return added;
}

const DeviceCodeFile& find_file(std::string_view name, std::string_view includer) {
  for (const DeviceCodeFile& file : device_code_files())
    if (file.name == name) return file;
  const std::lock_guard lock(added().mutex);
  for (const DeviceCodeFile& file : added().files)
    if (file.name == name) return file;
  fail(ErrorCode::kRuntime, "there is no device code {}{}{}", name, includer.empty() ? "" : ", included by ", includer);
}

// The names in `#include "…"` lines. Device code stands alone: there is nothing else to include.
std::vector<std::string_view> includes_of(const DeviceCodeFile& file) {
  std::vector<std::string_view> names;
  std::string_view rest = file.text;
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const auto skip = [&](std::string_view word) {
      while (line.starts_with(' ')) line.remove_prefix(1);
      if (!line.starts_with(word)) return false;
      line.remove_prefix(word.size());
      return true;
    };
    if (!skip("#") || !skip("include")) continue;
    if (!skip("\"") || line.find('"') == std::string_view::npos)
      fail(ErrorCode::kRuntime, "{} includes what is no device code: #include{}", file.name, line);
    names.push_back(line.substr(0, line.find('"')));
  }
  return names;
}

void add_closure(std::string_view name, std::string_view includer, std::vector<std::string_view>& names) {
  const DeviceCodeFile& file = find_file(name, includer);
  if (std::find(names.begin(), names.end(), file.name) != names.end()) return;
  names.push_back(file.name);
  for (std::string_view included : includes_of(file)) add_closure(included, file.name, names);
}

void hash_closure(std::string_view file, Hasher& hasher) {
  for (std::string_view name : device_code_closure(file)) {
    hasher.add(name);
    hasher.add(std::string_view("\0", 1));
    hasher.add(find_file(name, "").text);
    hasher.add(std::string_view("\0", 1));
  }
}

Nvrtc load_nvrtc() {
  Nvrtc nvrtc;
  const cuda::SharedLibrary library{"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
  if (!library.ok()) {
    nvrtc.missing = "the compiler of device code (NVRTC) is missing: " + library.missing();
    return nvrtc;
  }
#define INGOT_LOAD(NAME, ...)                                                 \
  nvrtc.NAME = reinterpret_cast<decltype(nvrtc.NAME)>(library.symbol(#NAME)); \
  if (!nvrtc.NAME) nvrtc.missing = "the NVRTC found is too old: it has no " #NAME;
  INGOT_NVRTC_FUNCTIONS(INGOT_LOAD)
  INGOT_LOAD(nvrtcGetErrorString)
#undef INGOT_LOAD
  int major = 0, minor = 0;
  if (!nvrtc.ok()) return nvrtc;
  if (nvrtc.nvrtcVersion(&major, &minor) != NVRTC_SUCCESS) nvrtc.missing = "NVRTC does not tell its version";
  nvrtc.version = format("{}.{}", major, minor);
  return nvrtc;
}

struct Compiled {
  std::shared_ptr<const std::vector<std::byte>> cubin;
  std::string log;
};

// A program of NVRTC over one module.
class Compilation {
 public:
  explicit Compilation(const DeviceModule& module) : nvrtc_(Nvrtc::get()), module_(module) {
    std::vector<std::string> texts, names;
    for (std::string_view name : device_code_closure(module.file)) {
      names.emplace_back(name);
      texts.emplace_back(find_file(name, "").text);
    }
    std::vector<const char*> text_pointers, name_pointers;
    for (const std::string& text : texts) text_pointers.push_back(text.c_str());
    for (const std::string& name : names) name_pointers.push_back(name.c_str());
    const std::string source = format("#include \"{}\"\n", module.file);
    check(nvrtc_.nvrtcCreateProgram(&program_, source.c_str(), kProgramName, static_cast<int>(names.size()),
                                    text_pointers.data(), name_pointers.data()),
          "nvrtcCreateProgram");
  }
  ~Compilation() { nvrtc_.nvrtcDestroyProgram(&program_); }
  Compilation(const Compilation&) = delete;
  Compilation& operator=(const Compilation&) = delete;

  Compiled run() {
    std::vector<std::string> options = {"--gpu-architecture=" + module_.arch};
    options.insert(options.end(), std::begin(kOptions), std::end(kOptions));
    for (const std::string& define : module_.defines) options.push_back("-D" + define);
    std::vector<const char*> pointers;
    for (const std::string& option : options) pointers.push_back(option.c_str());
    const nvrtcResult result = nvrtc_.nvrtcCompileProgram(program_, static_cast<int>(pointers.size()), pointers.data());
    if (result == NVRTC_ERROR_INVALID_OPTION)
      fail(ErrorCode::kIncompatible, "NVRTC {} does not compile for {}: {}", nvrtc_.version, module_.arch, log());
    if (result != NVRTC_SUCCESS)
      fail(ErrorCode::kRuntime, "{} with [{}] does not compile for {} ({}):\n{}", module_.file, join(module_.defines),
           module_.arch, nvrtc_.nvrtcGetErrorString(result), log());
    return {cubin(), log()};
  }

 private:
  void check(nvrtcResult result, std::string_view what) {
    if (result != NVRTC_SUCCESS)
      fail(ErrorCode::kRuntime, "{} for {}: {}", what, module_.file, nvrtc_.nvrtcGetErrorString(result));
  }

  std::string log() {
    size_t size = 0;
    check(nvrtc_.nvrtcGetProgramLogSize(program_, &size), "nvrtcGetProgramLogSize");
    std::string text(size, '\0');
    check(nvrtc_.nvrtcGetProgramLog(program_, text.data()), "nvrtcGetProgramLog");
    while (!text.empty() && text.back() == '\0') text.pop_back();
    return text;
  }

  std::shared_ptr<const std::vector<std::byte>> cubin() {
    size_t size = 0;
    check(nvrtc_.nvrtcGetCUBINSize(program_, &size), "nvrtcGetCUBINSize");
    auto bytes = std::make_shared<std::vector<std::byte>>(size);
    check(nvrtc_.nvrtcGetCUBIN(program_, reinterpret_cast<char*>(bytes->data())), "nvrtcGetCUBIN");
    return bytes;
  }

  const Nvrtc& nvrtc_;
  const DeviceModule& module_;
  nvrtcProgram program_ = nullptr;
};

// Every module of this process is compiled once; who comes while that goes on waits for it.
std::shared_future<Compiled> compile(const DeviceModule& module) {
  if (const Nvrtc& nvrtc = Nvrtc::get(); !nvrtc.ok()) fail(ErrorCode::kIncompatible, "{}", nvrtc.missing);
  static std::mutex mutex;
  static std::map<std::string, std::shared_future<Compiled>> compiled;
  std::promise<Compiled> promise;
  const std::shared_future<Compiled> result = promise.get_future().share();
  {
    const std::string name = module.name();
    const std::lock_guard lock(mutex);
    const auto [place, fresh] = compiled.try_emplace(name);
    if (!fresh) return place->second;
    place->second = result;
  }
  try {
    promise.set_value(Compilation(module).run());
  } catch (...) {
    promise.set_exception(std::current_exception());
  }
  return result;
}
}  // namespace

const Nvrtc& Nvrtc::get() {
  static const Nvrtc nvrtc = load_nvrtc();
  return nvrtc;
}

std::string DeviceModule::name() const {
  Hasher hasher;
  hash_closure(file, hasher);
  const auto add = [&](std::string_view text) {
    hasher.add(text);
    hasher.add(std::string_view("\0", 1));
  };
  add(file);
  for (const std::string& define : defines) add(define);
  add(arch);
  for (const char* option : kOptions) add(option);
  return hex64(hasher.digest());
}

std::vector<std::string_view> device_code_closure(std::string_view file) {
  std::vector<std::string_view> names;
  add_closure(file, "", names);
  std::sort(names.begin(), names.end());
  return names;
}

std::string device_code_version(std::string_view file) {
  Hasher hasher;
  hash_closure(file, hasher);
  return hex64(hasher.digest()).substr(0, 8);
}

void add_device_code(std::string name, std::string text) {
  const std::lock_guard lock(added().mutex);
  const auto& [kept_name, kept_text] = added().texts.emplace_back(std::move(name), std::move(text));
  added().files.push_back({kept_name, kept_text});
}

std::string compiler_version() { return Nvrtc::get().ok() ? Nvrtc::get().version : ""; }
std::string why_no_compiler() { return Nvrtc::get().missing; }

std::shared_ptr<const std::vector<std::byte>> compile_module(const DeviceModule& module) {
  return compile(module).get().cubin;
}

std::string compiler_log(const DeviceModule& module) { return compile(module).get().log; }

}  // namespace ingot
