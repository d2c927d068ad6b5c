// Any bytes are a network or an Error; what was understood prints and reads back equal.
#include <cstdlib>

#include "base/error.h"
#include "ir/text.h"
#include "ir/verify.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ingot::Network network;
  try {
    network = ingot::parse_network({reinterpret_cast<const char*>(data), size});
  } catch (const ingot::Error&) {
    return 0;
  }
  std::string text = ingot::print(network);
  if (ingot::print(ingot::parse_network(text)) != text) std::abort();
  try {
    ingot::verify(network);
  } catch (const ingot::Error&) {
  }
  return 0;
}
