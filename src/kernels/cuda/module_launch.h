// How a kernel of an engine's own device code is started, as text: the parameters of a "cuda.module" step.
//
//   {module = 3f09ab12cd45ef67, function = rms_norm, grid = ["size(0, 0)", "1", "1"], block = 256, dependent = true,
//    arguments = ["buf 0", "buf 1", "buf 2", "i32 size(0, 0)", "f32 1e-05"]}
//
// The step's buffers are the problem's inputs, then its outputs, numbered from 0. Sizes are expressions over them:
//   expression = term {("+" | "-") term}      term = factor {("*" | "/" | "%") factor}      "/" rounds down
//   factor = integer | "(" expression ")" | "size(B, D)" | "sms"
//          | "ceil(a, b)" | "min(a, b)" | "max(a, b)"
// size(B, D) is dimension D of buffer B at this run, sms the number of multiprocessors. Arithmetic is in 64 bits.
// A grid with a dimension of zero or less starts nothing: the step is skipped.
//
// Arguments, in the order of the kernel's parameters:
//   buf B               the address of buffer B
//   scratch OFFSET      an address in the step's scratch memory; OFFSET is an expression, a multiple of 16
//   i32 E, i64 E, f32 X a number; E an expression, X a constant
//   map B dtype=bf16 dims=[E, E] strides=[E] box=[N, N] swizzle=128
//                       a 128-byte tensor map (CUtensorMap, by value, __grid_constant__) over buffer B: dims from the
//                       fastest, in elements; strides in bytes of every dim but the first; swizzle 0, 32, 64 or 128;
//                       2 to 4 dims. What lies outside reads as zero.
#pragma once

#include <string>
#include <vector>

#include "base/fields.h"

namespace ingot {

struct ModuleLaunch {
  std::string module;  // the name of a PlanModule
  std::string function;
  std::vector<std::string> grid = {"1", "1", "1"};
  std::vector<int64_t> block = {128, 1, 1};
  int64_t cluster = 1;       // blocks of a cluster, in x
  int64_t shared_bytes = 0;  // dynamic shared memory
  bool dependent = false;    // programmatic dependent launch; the kernel calls griddepcontrol.wait before it reads
  bool cooperative = false;
  std::vector<std::string> arguments;
  static constexpr auto fields() {
    return std::tuple{field("module", &ModuleLaunch::module),       field("function", &ModuleLaunch::function),
                      field("grid", &ModuleLaunch::grid),           field("block", &ModuleLaunch::block),
                      field("cluster", &ModuleLaunch::cluster),     field("shared_bytes", &ModuleLaunch::shared_bytes),
                      field("dependent", &ModuleLaunch::dependent), field("cooperative", &ModuleLaunch::cooperative),
                      field("arguments", &ModuleLaunch::arguments)};
  }
};

}  // namespace ingot
