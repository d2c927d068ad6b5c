// The loops of inspect/ceilings.h, one set per instruction set.
#pragma once

#include <cstdint>

namespace ingot {

// Reads `bytes` (a multiple of 8 KiB) as `streams` equal streams and returns a value that depends on all of them.
struct ReadLoop {
  const char* name;
  uint64_t (*read)(const void* data, int64_t bytes, int64_t prefetch_bytes);
};

// Runs `rounds` rounds in registers and returns the operations (multiplications and additions) of one round.
struct MatmulLoop {
  const char* name;
  bool is_f32;
  double (*run)(int64_t rounds);
};

namespace portable {
extern const ReadLoop kReadLoops[1];
extern const MatmulLoop kMatmulLoop;
}  // namespace portable
namespace avx2 {
extern const ReadLoop kReadLoops[4];
extern const MatmulLoop kMatmulLoop;
}  // namespace avx2
namespace avx512 {
extern const ReadLoop kReadLoops[4];
extern const MatmulLoop kMatmulLoop, kBf16Loop;
}  // namespace avx512
namespace amx {
extern const MatmulLoop kMatmulLoop;
}

}  // namespace ingot
