#include "kernels/cpu/handover.h"

#include <charconv>

namespace ingot {

namespace {
constexpr std::string_view kTiles = "bf16_tiles_";
}

std::string tiles_layout(int64_t block) { return format("{}{}", kTiles, block); }

int64_t tiles_block(std::string_view layout) {
  if (!layout.starts_with(kTiles)) return 0;
  int64_t block = 0;
  std::from_chars(layout.data() + kTiles.size(), layout.data() + layout.size(), block);
  return block;
}

void check_tiles_block(int64_t block) {
  if (block < 0 || block % kTileColumns != 0)
    fail(ErrorCode::kIncompatible, "this build of ingot cannot hand over tiles of {} columns; rebuild the engine",
         block);
}

}  // namespace ingot
