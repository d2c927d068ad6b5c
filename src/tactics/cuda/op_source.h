// What the sources of ops that are one launch of one of our own kernels have in common.
#pragma once

#include <algorithm>
#include <bit>
#include <numeric>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tactics/cuda/cuda_source.h"

namespace ingot {

class CudaOpSource : public TacticSource {
 public:
  // The source "cuda.<op><suffix>" of tactics whose device code is `file`.
  CudaOpSource(std::string_view op, std::string_view file, std::string_view suffix = "")
      : op_(op), name_(format("cuda.{}{}", op, suffix)), file_(file), version_(device_code_version(file)) {}

  std::string_view name() const final { return name_; }
  std::string_view version() const final { return version_; }
  std::variant<std::vector<std::string>, Unsupported> enumerate(const Problem& problem,
                                                                const Target& target) const final {
    if (problem.op.name() != op_) return Unsupported{};
    std::string reason = unless_cuda(target);
    if (reason.empty()) reason = refusal(problem);
    if (!reason.empty()) return Unsupported{reason};
    return configs(problem, target);
  }

 protected:
  // Why there is no tactic for a problem of the op, or "".
  virtual std::string refusal(const Problem& problem) const = 0;
  virtual std::vector<std::string> configs(const Problem& problem, const Target& target) const = 0;

  DeviceModule module(const Target& target, std::vector<std::string> defines) const {
    return {std::string(file_), std::move(defines), target.cuda_arch};
  }

 private:
  std::string_view op_;
  std::string name_;
  std::string_view file_;
  std::string version_;
};

// The inputs and outputs of a problem in turn: the arguments of a step whose buffers are those of the problem.
inline std::vector<int> every_argument(const Problem& problem) {
  std::vector<int> arguments(problem.inputs.size() + problem.outputs.size());
  std::iota(arguments.begin(), arguments.end(), 0);
  return arguments;
}

// "buf 3", or a null pointer for a buffer that there is not.
inline std::string buffer(int index) { return index < 0 ? "i64 0" : format("buf {}", index); }

// How many elements threads load and store at once: as many as `bytes` hold, fewer when that does not divide all sizes.
inline int64_t pack_size(DType dtype, std::initializer_list<int64_t> sizes, int64_t bytes = 16) {
  int64_t pack = bytes / size_of(dtype);
  for (int64_t size : sizes) pack = std::gcd(pack, size);
  return pack;
}

inline int64_t power_of_two_from(int64_t least) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(least, 1))));
}

}  // namespace ingot
