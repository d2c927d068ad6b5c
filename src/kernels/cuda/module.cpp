#include "kernels/cuda/module.h"

#include "base/error.h"
#include "kernels/cuda/kernel_argument.h"
#include "kernels/cuda/module_launch.h"
#include "kernels/cuda/size_expression.h"
#include "kernels/kernel_parameters.h"

namespace ingot {

namespace {

constexpr size_t kMaxArguments = 32;

class ModuleKernel final : public Kernel {
 public:
  ModuleKernel(const ModuleLaunch& launch, const KernelSupport& support) : device_(support.device) {
    if (!device_) fail(ErrorCode::kIncompatible, "the function {} needs an NVIDIA GPU", launch.function);
    check(launch);
    cuda::CUmodule module = device_->module(launch.module, support.module_image(launch.module));
    prototype_.function = device_->function(module, launch.function, launch.shared_bytes);
    for (size_t i = 0; i < launch.grid.size(); ++i) grid_[i] = SizeExpression::parse(launch.grid[i]);
    for (size_t i = 0; i < launch.block.size(); ++i) prototype_.block[i] = static_cast<unsigned>(launch.block[i]);
    prototype_.cluster = static_cast<unsigned>(launch.cluster);
    prototype_.shared_bytes = static_cast<unsigned>(launch.shared_bytes);
    prototype_.dependent = launch.dependent;
    prototype_.cooperative = launch.cooperative;
    for (const std::string& text : launch.arguments) arguments_.push_back(parse_kernel_argument(text));
  }

  void run(const Launch& launch) const override {
    cuda::KernelLaunch now = prototype_;
    for (size_t i = 0; i < now.grid.size(); ++i) {
      int64_t blocks = grid_[i].evaluate(launch.arguments, device_->facts().multiprocessors);
      if (blocks <= 0) return;
      constexpr int64_t kMost[] = {INT32_MAX, 65535, 65535};
      if (blocks > kMost[i]) fail(ErrorCode::kRuntime, "a grid of {} blocks in dimension {}", blocks, i);
      now.grid[i] = static_cast<unsigned>(blocks);
    }
    std::array<ArgumentValue, kMaxArguments> values;
    std::array<void*, kMaxArguments> pointers{};
    for (size_t i = 0; i < arguments_.size(); ++i) {
      arguments_[i]->write(launch, *device_, values[i]);
      pointers[i] = &values[i];
    }
    now.arguments = pointers.data();
    launch.stream->launch(now);
  }

 private:
  static void check(const ModuleLaunch& launch) {
    bool fits = launch.grid.size() <= 3 && launch.block.size() <= 3 && !launch.block.empty() &&
                launch.arguments.size() <= kMaxArguments && launch.cluster >= 1 && launch.cluster <= 16 &&
                launch.shared_bytes >= 0 && launch.shared_bytes <= (1 << 20);
    int64_t threads = 1;
    for (int64_t size : launch.block) {
      fits = fits && size >= 1 && size <= 1024;
      threads *= fits ? size : 0;
    }
    if (!fits || threads > 1024)
      fail(ErrorCode::kIncompatible, "the launch of {} has a grid, block, cluster or list of arguments out of range",
           launch.function);
  }

  cuda::DevicePtr device_;
  cuda::KernelLaunch prototype_;
  std::array<SizeExpression, 3> grid_ = {SizeExpression::parse("1"), SizeExpression::parse("1"),
                                         SizeExpression::parse("1")};
  std::vector<std::unique_ptr<KernelArgument>> arguments_;
};

}  // namespace

std::unique_ptr<Kernel> make_module_kernel(std::string_view parameters, const KernelSupport& support) {
  return std::make_unique<ModuleKernel>(parse_kernel_parameters<ModuleLaunch>(parameters), support);
}

}  // namespace ingot
