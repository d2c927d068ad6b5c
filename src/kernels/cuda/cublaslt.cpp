#include "kernels/cuda/cublaslt.h"

#include <mutex>

#include "base/error.h"
#include "base/log.h"
#include "kernels/cuda/cublaslt_api.h"
#include "kernels/kernel_parameters.h"

namespace ingot {

namespace {

using cublaslt::Algorithm;
using cublaslt::Product;

// The algorithms for the sizes that came up last. Filling a slot asks the library, which takes microseconds on the host
// and touches no stream; so it may happen while a graph is captured.
class AlgorithmCache {
 public:
  template <class F>
  Algorithm find(const Product& product, F&& choose) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < used_; ++i)
      if (slots_[i].product == product) return slots_[i].algorithm;
    const Slot slot{product, choose()};
    slots_[next_] = slot;
    next_ = (next_ + 1) % slots_.size();
    used_ = std::min(used_ + 1, slots_.size());
    return slot.algorithm;
  }

 private:
  struct Slot {
    Product product;
    Algorithm algorithm{};
  };
  std::mutex mutex_;
  std::array<Slot, 64> slots_;
  size_t used_ = 0, next_ = 0;
};

class CublasltMatmulKernel final : public Kernel {
 public:
  CublasltMatmulKernel(const CublasltMatmul& parameters, const KernelSupport& support)
      : op_(parameters),
        pinned_(cublaslt::parse_algorithm(parameters.algorithm)),
        is_pinned_(!parameters.algorithm.empty()),
        workspace_bytes_(parameters.workspace_bytes),
        rows_at_once_(parameters.rows_at_once),
        device_(support.device),
        connection_(cublaslt::Connection::open(support.device)) {
    if (op_.gated) {
      op_ = {.bias = op_.bias};
      gate_ = make_kernel(parameters.gate_kernel, parameters.gate_parameters, support);
    }
  }

  void run(const Launch& launch) const override {
    const Argument& y = launch.arguments.back();
    if (y.size[0] == 0) return;
    device_->make_current();
    if (gate_)
      multiply_and_gate(launch);
    else
      multiply(launch, launch.arguments[0], y);
  }

 private:
  void multiply(const Launch& launch, const Argument& x, const Argument& y) const {
    const Argument& w = launch.arguments[1];
    const Product product{op_, x.size[0], w.size[0], w.size[1], w.dtype, y.dtype};
    const void* bias = op_.bias ? launch.arguments[2].data : nullptr;
    const void* residual = op_.residual ? launch.arguments[op_.bias ? 3 : 2].data : nullptr;
    cublaslt::Descriptors descriptors(connection_, product, bias);
    const Algorithm algorithm = algorithms_.find(product, [&] { return choose(descriptors, product); });
    descriptors.run(algorithm, {x.data, w.data, residual, y.data, launch.scratch}, workspace_bytes_,
                    launch.stream->get());
  }

  // A few rows at a time, so that their products take little memory and are still in the cache when they are gated.
  void multiply_and_gate(const Launch& launch) const {
    Argument x = launch.arguments[0], y = launch.arguments.back();
    Argument products{
        launch.scratch + products_offset(workspace_bytes_), DType::kF32, 2, {0, launch.arguments[1].size[0]}};
    const auto skip_rows = [](Argument& matrix) {
      matrix.data = matrix.as<std::byte>() + matrix.size[0] * matrix.size[1] * size_of(matrix.dtype);
    };
    for (int64_t left = x.size[0]; left > 0; left -= x.size[0], skip_rows(x), skip_rows(y)) {
      x.size[0] = y.size[0] = products.size[0] = std::min(left, rows_at_once_);
      multiply(launch, x, products);
      const Argument arguments[] = {products, y};
      gate_->run({.arguments = arguments, .stream = launch.stream});
    }
  }

  Algorithm choose(cublaslt::Descriptors& descriptors, const Product& product) const {
    if (is_pinned_ && descriptors.accepts(pinned_, workspace_bytes_)) return pinned_;
    const auto recommended = descriptors.heuristics(workspace_bytes_, 1);
    if (recommended.empty())
      fail(ErrorCode::kRuntime, "cuBLASLt has no algorithm for {} rows of {} by {} with {} bytes of workspace",
           product.rows, product.k, product.n, workspace_bytes_);
    return recommended[0].algorithm;
  }

  Matmul op_;
  Algorithm pinned_;
  bool is_pinned_;
  int64_t workspace_bytes_, rows_at_once_;
  std::unique_ptr<Kernel> gate_;  // of a gated one
  cuda::DevicePtr device_;
  const cublaslt::Connection& connection_;
  mutable AlgorithmCache algorithms_;
};

class FallbackKernel final : public Kernel {
 public:
  FallbackKernel(const CublasltFallback& fallback, const KernelSupport& support) {
    for (size_t i = 0; i < fallback.fallback_kernels.size(); ++i)
      kernels_.push_back(make_kernel(fallback.fallback_kernels[i], fallback.fallback_parameters[i], support));
  }
  void run(const Launch& launch) const override {
    for (const std::unique_ptr<Kernel>& kernel : kernels_) kernel->run(launch);
  }

 private:
  std::vector<std::unique_ptr<Kernel>> kernels_;
};

// Why this machine's library cannot run what was chosen, or "".
std::string mismatch(const CublasltChoice& choice) {
  const cublaslt::Library& library = cublaslt::Library::get();
  if (!library.ok()) return "libcublasLt.so.13 is missing: " + library.missing;
  if (library.version != choice.version)
    return format("found cuBLASLt {}, the engine was tuned with {}", library.version, choice.version);
  return "";
}

}  // namespace

std::unique_ptr<Kernel> make_cublaslt_matmul(std::string_view parameters, const KernelSupport& support) {
  const auto parsed = parse_kernel_parameters<CublasltMatmul>(parameters);
  if (parsed.workspace_bytes < 0 || parsed.fallback_kernels.size() != parsed.fallback_parameters.size())
    fail(ErrorCode::kIncompatible, "its workspace or its fallback makes no sense");
  if (parsed.gated && (parsed.gate_kernel.empty() || parsed.rows_at_once <= 0 || parsed.rows_at_once % 64 != 0))
    fail(ErrorCode::kIncompatible, "it has no step for its gate, or rows_at_once is not a multiple of 64 above 0");
  cublaslt::parse_algorithm(parsed.algorithm);
  const std::string reason = mismatch(parsed);
  if (reason.empty()) return std::make_unique<CublasltMatmulKernel>(parsed, support);
  if (parsed.fallback_kernels.empty())
    fail(ErrorCode::kIncompatible, "{}; the engine has no kernel in its place", reason);
  static std::once_flag told;  // an engine has hundreds of these
  std::call_once(told, [&] { log_warning("{}: kernels of our own take its place, which may be slower", reason); });
  return std::make_unique<FallbackKernel>(parsed, support);
}

}  // namespace ingot
