// Any bytes are a timing cache with damage at worst; what was understood reads back equal.
#include <cstdlib>

#include "tune/timing_cache.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ingot::TimingCache cache;
  cache.merge_text({reinterpret_cast<const char*>(data), size});
  ingot::TimingCache again;
  if (!again.merge_text(cache.text()).empty() || again.text() != cache.text()) std::abort();
  return 0;
}
