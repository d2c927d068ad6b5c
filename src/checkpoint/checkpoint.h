// A Hugging Face model directory: its configuration, and its tensors by name wherever they are stored. Opening reads
// headers alone. A random checkpoint has only the configuration: its tensors come into being when they are required.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/mapped_file.h"
#include "checkpoint/random_tensors.h"
#include "checkpoint/safetensors.h"
#include "tensor/host_tensor.h"

namespace ingot {

class Checkpoint {
 public:
  // Reads config.json, generation_config.json if there, and the headers of model.safetensors, or of the files that
  // model.safetensors.index.json names, or of the only *.safetensors file. Every header is valid afterwards.
  static Checkpoint open(const Path& directory);
  // Any weights of the right shapes: matrices are normal with the standard deviation `initializer_range` of the
  // configuration (default 0.02), vectors noise of that size around 0, or around 1 for the weights of norms.
  static Checkpoint random(const Path& config_or_directory, uint64_t seed);

  const Json& config() const { return config_; }
  const Json& generation_config() const { return generation_config_; }  // an empty object when the file is absent
  const Path& path() const { return path_; }                            // the directory of config.json
  bool is_random() const { return random_ != nullptr; }

  // All members below are thread-safe. On a random checkpoint only tensors required before exist.
  std::vector<std::string> names() const;  // sorted
  const TensorType* find(std::string_view name) const;
  bool has(std::string_view name) const { return find(name) != nullptr; }
  // The type of a tensor that must exist, else an Error that names the nearest one that does.
  const TensorType& type(std::string_view name) const;
  // The type of a tensor that must exist with this shape as F32, F16 or BF16; throws an Error that says what was found.
  // On a random checkpoint: declares the tensor.
  const TensorType& require(std::string_view name, const std::vector<int64_t>& shape) const;

  // Writes the elements [first_element, first_element + count) in the stored dtype to `out`.
  void read(std::string_view name, int64_t first_element, int64_t count, void* out) const;
  // The mapped bytes, not necessarily aligned; valid as long as the checkpoint. Throws an Error on a random checkpoint.
  TensorView view(std::string_view name) const;
  // Hints that a tensor will be read soon, or not again. Nothing on a random checkpoint.
  void will_need(std::string_view name) const;
  void drop(std::string_view name) const;

 private:
  struct Entry {
    TensorType type;
    size_t file;
    uint64_t offset, bytes;
  };
  Checkpoint() = default;
  void open_weights();
  void open_indexed(const Path& index_path);
  void add_file(const Path& path);
  const Entry* entry(std::string_view name) const;

  Path path_;
  Json config_, generation_config_ = Json::object();
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Entry, std::less<>> tensors_;
  std::unique_ptr<RandomTensors> random_;
};

}  // namespace ingot
