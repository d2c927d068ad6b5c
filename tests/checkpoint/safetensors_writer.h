// Writes safetensors files and model directories for tests, valid ones and broken ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/mapped_file.h"
#include "tensor/host_tensor.h"

namespace ingot {

struct NamedTensor {
  std::string name;
  HostTensor value;
};

inline std::string safetensors_dtype(DType dtype) {
  constexpr const char* kNames[] = {"F64", "F32", "F16", "BF16", "I64", "I32", "I8", "U8", "BOOL"};
  return kNames[static_cast<int>(dtype)];
}

// A whole file around any header text.
inline std::string safetensors_around(const std::string& header, const std::string& data) {
  uint64_t size = header.size();
  std::string file(sizeof size, '\0');
  std::memcpy(file.data(), &size, sizeof size);
  return file + header + data;
}

inline std::string safetensors_file(const std::vector<NamedTensor>& tensors) {
  Json header = Json::object();
  header.set("__metadata__", Json(Json::Object{{"format", "pt"}}));
  std::string data;
  for (const NamedTensor& tensor : tensors) {
    std::vector<std::byte> bytes = tensor.value.bytes();
    Json entry = Json::object(), shape = Json::array(), offsets = Json::array();
    for (int64_t size : tensor.value.type.sizes()) shape.push(size);
    offsets.push(data.size());
    data.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    offsets.push(data.size());
    entry.set("dtype", safetensors_dtype(tensor.value.type.dtype));
    entry.set("shape", shape);
    entry.set("data_offsets", offsets);
    header.set(tensor.name, entry);
  }
  return safetensors_around(header.dump() + "  ", data);
}

// A directory of its own that is removed at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "ingot-test-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const Path& path() const { return path_; }
  void write(const std::string& name, const std::string& text) const { write_text_file(path_ / name, text); }

 private:
  Path path_;
};

}  // namespace ingot
