// Which kernels can solve which problem. A problem is an op at concrete sizes; a tactic is one way to solve it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"
#include "device/target.h"
#include "ops/op.h"
#include "tactics/cuda/device_code.h"

namespace ingot {

struct Problem {
  AnyOp op;
  Types inputs, outputs;  // constant; layouts empty but for values that are handed over

  // "matmul f32[16, 4096] bf16[14336, 4096] {bias = true}": the key of the timing cache. Outputs follow from the
  // inputs.
  std::string key() const;
};

// Parses what key() prints; throws an Error otherwise.
Problem parse_problem(std::string_view text);

struct Tactic {
  std::string source;  // "cpu.matmul_avx2"
  std::string config;  // "tile=6x16 kc=256"; a single line without '|'
  bool operator==(const Tactic&) const = default;
};

// One launch. `arguments` index the problem's inputs, then its outputs.
struct CompiledStep {
  std::string kernel;
  std::string parameters;
  std::vector<int> arguments;
};

struct CompiledTactic {
  std::vector<CompiledStep> steps;
  std::vector<std::string> input_layouts;  // one per input; "" is row major. Only weights may ask for another.
  int64_t scratch_bytes = 0;          // enough for this problem and every smaller number of rows; all steps share it
  std::vector<DeviceModule> modules;  // the device code that the steps name
};

// Offers ways to solve problems; knows no graph. Implementations are stateless.
class TacticSource {
 public:
  virtual ~TacticSource() = default;
  virtual std::string_view name() const = 0;
  // Changes whenever the code behind the tactics changes, so that old timings are not trusted.
  virtual std::string_view version() const = 0;
  // The configurations to try, best guess first (what -O0 takes), or why there is none; without a reason when the
  // source is for other ops.
  virtual std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem&, const Target&) const = 0;
  // For a source that must ask the device what there is to try. `known`: the configurations that the timing cache holds
  // for this problem, device and version of the source. Those that still stand, in an order that depends on nothing but
  // them; they are tried in place of what enumerate() would list, so that a build from the cache needs no device. None:
  // enumerate() is asked.
  virtual std::vector<std::string> recall(const Problem&, const Target&, std::span<const std::string> /*known*/) const {
    return {};
  }
  // The name of a source that solves what this one solves on such a target, and faster in every case: while that one is
  // there, this one's tactics are not worth measuring. "": there is none.
  virtual std::string_view outclassed_by(const Target&) const { return {}; }
  // A value that one step makes and others read may go between them in a form that only they know, no larger than row
  // major. The layout in which such a tactic would rather read an input, "" for none; and whether it can write a result
  // so. Where all of them agree, they are compiled with that layout in the types of their problems.
  virtual std::string read_layout(const Problem&, std::string_view /*config*/, size_t /*input*/) const { return {}; }
  virtual bool can_write(const Problem&, std::string_view /*config*/, size_t /*output*/,
                         std::string_view /*layout*/) const {
    return false;
  }
  // For a configuration that enumerate() or recall() offered for a problem of the same op, dtypes and weight shapes.
  virtual CompiledTactic compile(const Problem&, std::string_view config, const Target&) const = 0;
};

// The sources of this build, in the order of tactic_list.cpp (best guess for -O0 first).
std::span<const TacticSource* const> tactic_list();

}  // namespace ingot
