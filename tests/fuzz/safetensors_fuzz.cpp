// Any bytes as a safetensors file: an Error, or tensors that lie inside of the file one after the other.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/error.h"
#include "checkpoint/safetensors.h"

namespace {

void check(std::span<const std::byte> file) {
  try {
    uint64_t end = 0;
    for (const ingot::StoredTensor& tensor : ingot::parse_safetensors(file)) {
      if (end != 0 && tensor.offset != end) std::abort();
      if (static_cast<int64_t>(tensor.bytes) != tensor.type.bytes()) std::abort();
      end = tensor.offset + tensor.bytes;
      if (end > file.size()) std::abort();
    }
    if (end != 0 && end != file.size()) std::abort();
  } catch (const ingot::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  check({reinterpret_cast<const std::byte*>(data), size});
  if (size == 0) return 0;
  // The same bytes as a header that has its right length, with some bytes of data behind it.
  uint64_t header_bytes = size - 1;
  std::string file(sizeof header_bytes + header_bytes + data[0] % 64, '\0');
  std::memcpy(file.data(), &header_bytes, sizeof header_bytes);
  std::memcpy(file.data() + sizeof header_bytes, data + 1, header_bytes);
  check(std::as_bytes(std::span(file.data(), file.size())));
  return 0;
}
