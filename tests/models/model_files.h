// Model directories for tests: the toy checkpoints of tests/data/models, and ones written to a temporary folder.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/mapped_file.h"
#include "checkpoint/checkpoint.h"

namespace ingot {

inline Path golden_folder(const std::string& name) { return Path(INGOT_SOURCE_DIR) / "tests/data/models" / name; }

inline std::string read_text(const Path& path) { return std::string(MappedFile(path).text()); }

inline Json golden_config(const std::string& name) {
  return parse_json(read_text(golden_folder(name) / "config.json"));
}

// A directory of this test alone, gone at the end of the block.
class TemporaryModel {
 public:
  TemporaryModel() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    std::string name = std::string(test->test_suite_name()) + "_" + test->name();
    for (char& c : name)
      if (c == '/') c = '_';
    path_ = std::filesystem::temp_directory_path() / ("ingot_models_" + std::to_string(::getpid()) + "_" + name);
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~TemporaryModel() { std::filesystem::remove_all(path_); }

  const Path& path() const { return path_; }

  // A checkpoint that has only this configuration.
  Checkpoint random(const Json& config) const {
    std::ofstream(path_ / "config.json") << config.dump(2);
    return Checkpoint::random(path_, 1);
  }

  // A checkpoint with these tensors, all zero, in float32.
  Checkpoint stored(const Json& config, const std::map<std::string, std::vector<int64_t>>& tensors) const {
    std::ofstream(path_ / "config.json") << config.dump(2);
    Json header = Json::object();
    int64_t offset = 0;
    for (const auto& [name, shape] : tensors) {
      Json entry = Json::object(), sizes = Json::array();
      int64_t bytes = 4;
      for (int64_t size : shape) sizes.push(size), bytes *= size;
      entry.set("dtype", "F32");
      entry.set("shape", sizes);
      entry.set("data_offsets", Json(Json::Array{offset, offset + bytes}));
      header.set(name, entry);
      offset += bytes;
    }
    std::string text = header.dump();
    uint64_t length = text.size();
    std::ofstream file(path_ / "model.safetensors", std::ios::binary);
    file.write(reinterpret_cast<const char*>(&length), 8);
    file << text << std::string(static_cast<size_t>(offset), '\0');
    file.close();
    return Checkpoint::open(path_);
  }

 private:
  Path path_;
};

}  // namespace ingot
