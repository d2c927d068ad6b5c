// One safetensors file: an 8-byte header length, a JSON header naming tensors, then their bytes without gaps.
// Everything the header says is checked against the file before anybody sees it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "tensor/type.h"

namespace ingot {

struct StoredTensor {
  std::string name;
  TensorType type;
  uint64_t offset = 0;  // of its first byte in the file; not necessarily aligned
  uint64_t bytes = 0;
};

// The tensors of a whole file in the order of their bytes. They lie inside `file`, fit their shape and dtype, and
// follow each other without overlap or hole to its last byte. Throws an Error that names the tensor and the numbers
// otherwise.
std::vector<StoredTensor> parse_safetensors(std::span<const std::byte> file);

// A mapped safetensors file with a valid header. Opening reads the header alone.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const Path& path);

  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  const MappedFile& file() const { return file_; }

 private:
  MappedFile file_;
  std::vector<StoredTensor> tensors_;
};

}  // namespace ingot
