// Kernels that are an op and its rows: one `run` per op, over the inner loops of an instruction set. Their parameters
// are the attributes of the op and what it hands over, their arguments its inputs and then its outputs. Activations are
// f32. The norms are in norm.h.
#pragma once

#include <memory>

#include "base/error.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/vector_functions.h"
#include "kernels/kernel.h"
#include "kernels/kernel_parameters.h"
#include "ops/attention.h"
#include "ops/experts.h"
#include "ops/indexing.h"
#include "ops/pointwise.h"
#include "ops/rope.h"
#include "ops/sample.h"

namespace ingot {

// pointwise.cpp
void run(const Add&, const VectorFunctions&, const Launch&);
void run(const Multiply&, const VectorFunctions&, const Launch&);
void run(const Scale&, const VectorFunctions&, const Launch&);
void run(const SoftCap&, const VectorFunctions&, const Launch&);
void run(const Activation&, const VectorFunctions&, const Launch&);
void run(const GatedActivation&, const VectorFunctions&, const Launch&);
void run(const Cast&, const VectorFunctions&, const Launch&);
// indexing.cpp
void run(const Embedding&, const VectorFunctions&, const Launch&);
void run(const GatherRows&, const VectorFunctions&, const Launch&);
void run(const Slice&, const VectorFunctions&, const Launch&);
// rope.cpp
void run(const RopeAngles&, const VectorFunctions&, const Launch&);
void run(const Rope&, const VectorFunctions&, const Launch&);
// kv_write.cpp
void run(const KvWrite&, const VectorFunctions&, const Launch&);
void run(const RopeKvWrite&, const VectorFunctions&, const Launch&);
// route.cpp
void run(const Route&, const VectorFunctions&, const Launch&);
// sample.cpp
void run(const Sample&, const VectorFunctions&, const Launch&);
void run(const NextIds&, const VectorFunctions&, const Launch&);

template <class Op>
class OpKernel final : public Kernel {
 public:
  OpKernel(Op op, const VectorFunctions& functions) : op_(std::move(op)), functions_(functions) {}
  void run(const Launch& launch) const override { ingot::run(op_, functions_, launch); }
  AnyOp op() const override { return op_; }

 private:
  Op op_;
  const VectorFunctions& functions_;
};

template <class Op, CpuLevel level>
std::unique_ptr<Kernel> make_op_kernel(std::string_view parameters) {
  Op op = parse_kernel_parameters<Op>(parameters);
  if constexpr (std::is_base_of_v<GivesTiles, Op>) check_tiles_block(op.gives_tiles);
  return std::make_unique<OpKernel<Op>>(std::move(op), vector_functions(level));
}

}  // namespace ingot
