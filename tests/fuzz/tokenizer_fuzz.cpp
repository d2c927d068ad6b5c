// Input: a tokenizer.json, a zero byte, a text. Nothing but an Error may come out of loading, encoding and decoding,
// and streaming must give what decoding gives.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = input.find('\0');
  const std::string_view text = end == std::string_view::npos ? input : input.substr(end + 1);
  try {
    ingot::Tokenizer tokenizer = ingot::Tokenizer::from_json(input.substr(0, end));
    std::vector<int32_t> ids = tokenizer.encode(text, true);
    for (unsigned char byte : text.substr(0, 64)) ids.push_back(byte);
    for (bool skip : {false, true}) {
      const std::string whole = tokenizer.decode(ids, skip);
      ingot::Detokenizer stream(tokenizer, skip);
      std::string pieces;
      for (int32_t id : ids) pieces += stream.push(id);
      if (pieces + stream.finish() != whole) std::abort();
    }
  } catch (const ingot::Error&) {
  }
  return 0;
}
