#include "kernels/cpu/expert_mlp.h"

#include <algorithm>

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/matmul_task.h"
#include "kernels/cpu/op_kernel.h"
#include "kernels/cpu/pack.h"

namespace ingot {

namespace {

// Tokens are processed in blocks of so many, which bounds the scratch memory; a block is enough work per expert to be
// bound by arithmetic once it is full.
constexpr int64_t kTokenBlock = 128;
// Threads take pieces of the products' columns of about this many weights.
constexpr int64_t kPieceWeights = 64 << 10;

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Where everything lies in the scratch memory. A pair is a token with one of its experts; pairs are ordered by expert,
// then by token.
struct Scratch {
  int64_t starts, places, gathered, packed, inner, gated, outputs, bytes;

  explicit Scratch(const ExpertMlpSizes& s) {
    int64_t tokens = std::min(s.tokens, kTokenBlock), pairs = tokens * s.top_k, at = 0;
    auto take = [&](int64_t elements) {
      int64_t offset = at;
      at = round_up(at + elements * 4, 64);
      return offset;
    };
    starts = take(s.experts + 1);
    places = take(pairs);  // [token, choice] -> pair
    gathered = take(pairs * s.hidden);
    packed = take(pairs * std::max(s.hidden, s.inner));  // x as the matmul code wants it
    inner = take(pairs * 2 * s.inner);
    gated = take(pairs * s.inner);
    outputs = take(pairs * s.hidden);
    bytes = at;
  }
};

class ExpertMlpKernel final : public Kernel {
 public:
  ExpertMlpKernel(const MatmulCode& code, CpuLevel level, std::string_view parameters)
      : code_(code),
        functions_(vector_functions(level)),
        op_(parse_kernel_parameters<ExpertMlpParameters>(parameters)) {
    panel_columns_ = panel_columns(op_.layout);
  }

  AnyOp op() const override { return static_cast<const ExpertMlp&>(op_); }
  void run(const Launch& launch) const override {
    const Argument &x = launch.arguments[0], &ids = launch.arguments[1], &down = launch.arguments[4];
    ExpertMlpSizes sizes{x.size[0], x.size[1], ids.size[1], down.size[0], down.size[2]};
    for (int64_t first = 0; first < sizes.tokens; first += kTokenBlock)
      run_block(launch, sizes, first, std::min(sizes.tokens, first + kTokenBlock));
  }

 private:
  struct Block {
    const Launch& launch;
    ExpertMlpSizes sizes;
    Scratch scratch;
    int64_t first, tokens;

    template <class T>
    T* at(int64_t offset) const {
      return reinterpret_cast<T*>(launch.scratch + offset);
    }
  };

  void run_block(const Launch& launch, const ExpertMlpSizes& sizes, int64_t first, int64_t end) const {
    Block block{launch, sizes, Scratch(sizes), first, end - first};
    const ExpertMlpSizes& s = sizes;
    group(block);
    gather(block);
    float* inner = block.at<float>(block.scratch.inner);
    float* gated = block.at<float>(block.scratch.gated);
    multiply(block, launch.arguments[3], block.at<float>(block.scratch.gathered), inner, 2 * s.inner, s.hidden);
    launch.threads->parallel_for(block.tokens * s.top_k, 4, [&](int64_t begin, int64_t stop) {
      for (int64_t pair = begin; pair < stop; ++pair) {
        const float* row = inner + pair * 2 * s.inner;
        functions_.gate(op_.function, row, row + s.inner, gated + pair * s.inner, s.inner);
      }
    });
    multiply(block, launch.arguments[4], gated, block.at<float>(block.scratch.outputs), s.hidden, s.inner);
    combine(block);
  }

  // Counts and orders the pairs.
  static void group(const Block& block) {
    const auto* ids = block.launch.arguments[1].as<const int32_t>() + block.first * block.sizes.top_k;
    auto* starts = block.at<int32_t>(block.scratch.starts);
    auto* places = block.at<int32_t>(block.scratch.places);
    int64_t pairs = block.tokens * block.sizes.top_k;
    std::fill(starts, starts + block.sizes.experts + 1, 0);
    for (int64_t i = 0; i < pairs; ++i) ++starts[ids[i] + 1];
    for (int64_t e = 0; e < block.sizes.experts; ++e) starts[e + 1] += starts[e];
    for (int64_t i = 0; i < pairs; ++i) places[i] = starts[ids[i]]++;
    for (int64_t e = block.sizes.experts; e > 0; --e) starts[e] = starts[e - 1];
    starts[0] = 0;
  }

  static void gather(const Block& block) {
    const float* x = block.launch.arguments[0].as<const float>();
    const auto* places = block.at<int32_t>(block.scratch.places);
    float* gathered = block.at<float>(block.scratch.gathered);
    int64_t hidden = block.sizes.hidden, top_k = block.sizes.top_k;
    block.launch.threads->parallel_for(block.tokens * top_k, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        std::copy_n(x + (block.first + i / top_k) * hidden, hidden, gathered + places[i] * hidden);
    });
  }

  // The group of one expert as a matrix product. `packed` is false while every group is small enough to be read as is.
  MatmulTask task_of(const Block& block, const Argument& weights, int64_t expert, const float* x, float* y, int64_t n,
                     int64_t k) const {
    const auto* starts = block.at<int32_t>(block.scratch.starts);
    int64_t first = starts[expert];
    int64_t expert_bytes =
        panel_columns_ ? round_up(n, panel_columns_) / panel_columns_ * panel_bytes(weights.dtype, panel_columns_, k)
                       : n * k * size_of(weights.dtype);
    MatmulTask task;
    task.x = x + first * k;
    task.w = weights.as<const char>() + expert * expert_bytes;
    task.y = y + first * n;
    task.packed = block.at<float>(block.scratch.packed) + first * k;
    task.rows = starts[expert + 1] - first;
    task.n = n, task.k = k, task.k_block = k;
    task.tile_rows = code_.stream_rows;
    task.format = weight_format(weights.dtype);
    task.panel_columns = panel_columns_;
    task.prefetch_bytes = op_.prefetch;
    return task;
  }

  // y = x · wᵀ for the rows of every expert. Pieces are (expert, columns); experts without tokens cost nothing.
  void multiply(const Block& block, const Argument& weights, const float* x, float* y, int64_t n, int64_t k) const {
    ThreadPool& threads = *block.launch.threads;
    int64_t experts = block.sizes.experts;
    if (panel_columns_) {
      threads.parallel_for(experts, 1, [&](int64_t begin, int64_t end) {
        for (int64_t e = begin; e < end; ++e) {
          MatmulTask task = task_of(block, weights, e, x, y, n, k);
          if (task.rows > code_.stream_direct_rows) code_.pack_x(task, 0, 0, RowTiles(task.rows, task.tile_rows).count);
        }
      });
    }
    int64_t unit = std::max<int64_t>(32, panel_columns_);
    int64_t width = std::max(unit, kPieceWeights / std::max<int64_t>(1, k) / unit * unit);
    int64_t pieces = (n + width - 1) / width;
    threads.parallel_for(experts * pieces, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        MatmulTask task = task_of(block, weights, i / pieces, x, y, n, k);
        int64_t column = i % pieces * width;
        if (task.rows > 0) code_.stream(task, column, std::min(n, column + width));
      }
    });
  }

  // The weighted sum of a token's experts, always in the order of its choices.
  void combine(const Block& block) const {
    const float* weights = block.launch.arguments[2].as<const float>() + block.first * block.sizes.top_k;
    const auto* places = block.at<int32_t>(block.scratch.places);
    const float* outputs = block.at<float>(block.scratch.outputs);
    int64_t hidden = block.sizes.hidden, top_k = block.sizes.top_k;
    float* y = block.launch.arguments[5].as<float>() + block.first * hidden;
    block.launch.threads->parallel_for(block.tokens, 4, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        float* row = y + t * hidden;
        functions_.scale(outputs + places[t * top_k] * hidden, weights[t * top_k], row, hidden);
        for (int64_t j = 1; j < top_k; ++j)
          functions_.blend(row, 1, outputs + places[t * top_k + j] * hidden, weights[t * top_k + j], row, hidden);
      }
    });
  }

  const MatmulCode& code_;
  const VectorFunctions& functions_;
  ExpertMlpParameters op_;
  int64_t panel_columns_ = 0;
};

}  // namespace

int64_t expert_mlp_scratch_bytes(const ExpertMlpSizes& sizes) { return Scratch(sizes).bytes; }

std::unique_ptr<Kernel> make_expert_mlp_portable(std::string_view parameters) {
  return std::make_unique<ExpertMlpKernel>(portable::kMatmulCode, CpuLevel::kPortable, parameters);
}
std::unique_ptr<Kernel> make_expert_mlp_avx2(std::string_view parameters) {
  return std::make_unique<ExpertMlpKernel>(avx2::kMatmulCode, CpuLevel::kAvx2, parameters);
}
std::unique_ptr<Kernel> make_expert_mlp_avx512(std::string_view parameters) {
  return std::make_unique<ExpertMlpKernel>(avx512::kMatmulCode, CpuLevel::kAvx512, parameters);
}

}  // namespace ingot
