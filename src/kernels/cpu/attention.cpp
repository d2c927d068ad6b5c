#include "kernels/cpu/attention.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/cpu/attention_memory-inl.h"
#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/op_kernel.h"
#include "tensor/dtype.h"

namespace ingot {

namespace {

constexpr float kLog2E = 1.44269504f;
constexpr int64_t kNoWindow = int64_t{1} << 30;

class AttentionRun {
 public:
  AttentionRun(const AttentionParameters& parameters, CpuLevel level, const Launch& launch)
      : parameters_(parameters),
        launch_(launch),
        functions_(attention_functions(level)),
        vectors_(vector_functions(level)),
        q_(launch.arguments[0].as<float>()),
        y_(launch.arguments[8].as<float>()),
        k_(launch.arguments[1]),
        v_(launch.arguments[2]),
        heads_per_kv_(parameters.heads / k_.kv_heads),
        window_(parameters.window > 0 ? std::min(parameters.window, kNoWindow) : kNoWindow),
        k_stride_(round_up(k_.size, functions_.stride_multiple)),
        v_stride_(round_up(v_.size, functions_.stride_multiple)) {
    const Argument& y = launch.arguments[8];
    if (parameters.gives_tiles > 0) tiles_ = {y.data, y.size[0], parameters.heads * v_.size, parameters.gives_tiles};
  }

  void run() {
    const int64_t sequences = launch_.arguments[4].size[0];
    const int threads = std::min(launch_.threads->size(), parameters_.threads);
    ScratchPieces pieces(launch_.scratch);
    plans_ = {pieces.take<SequencePlan>(sequences), static_cast<size_t>(sequences)};
    thread_scratch_ = launch_.scratch + pieces.bytes();
    thread_bytes_ = scratch_of_thread(functions_, k_stride_, v_stride_);
    partial_ = reinterpret_cast<float*>(thread_scratch_ + parameters_.threads * thread_bytes_);
    read_sequences();
    const int64_t tasks = cut_into_tasks(plans_, {k_.kv_heads, heads_per_kv_, v_stride_, window_, threads,
                                                  parameters_.partial_floats, functions_.most_wide_rows});
    clear_unowned_rows();
    heads_first_ = k_.kv_heads >= 2 * threads;
    share(threads, tasks,
          [this](int64_t task, int64_t next, ThreadScratch& scratch) { run_task(task, next, scratch); });
    for (const SequencePlan& plan : plans_)
      if (plan.split)
        share(threads, k_.kv_heads, [&](int64_t head, int64_t, ThreadScratch&) { fold_split(plan, head); });
  }

  static int64_t scratch_of_thread(const AttentionFunctions& functions, int64_t k_stride, int64_t v_stride) {
    ScratchPieces pieces(nullptr);
    ThreadScratch(pieces, functions, k_stride, v_stride);
    return pieces.bytes();
  }

 private:
  // f(task, the thread's next task or -1, scratch of the thread) for every task, each taken by the next free thread.
  // Tasks are taken ahead only while there are many.
  template <class F>
  void share(int threads, int64_t tasks, F f) {
    std::atomic<int64_t> next{0};
    auto work = [&](int thread) {
      if (thread >= threads) return;
      ScratchPieces pieces(thread_scratch_ + thread * thread_bytes_);
      ThreadScratch scratch(pieces, functions_, k_stride_, v_stride_);
      const auto take = [&] { return next.fetch_add(1, std::memory_order_relaxed); };
      for (int64_t task = take(); task < tasks;) {
        const int64_t ahead = tasks - task > 4 * threads ? take() : -1;
        f(task, ahead < tasks ? ahead : -1, scratch);
        task = ahead < 0 ? take() : ahead;
      }
    };
    if (threads == 1 || tasks <= 1) return work(0);
    launch_.threads->run(work);
  }

  void read_sequences() {
    const int32_t* query_starts = launch_.arguments[3].as<int32_t>();
    const int32_t* context_lengths = launch_.arguments[4].as<int32_t>();
    const int32_t* page_starts = launch_.arguments[5].as<int32_t>();
    const int32_t* page_list = launch_.arguments[6].as<int32_t>();
    const int32_t* context_starts = launch_.arguments[7].as<int32_t>();
    for (size_t s = 0; s < plans_.size(); ++s) {
      SequencePlan plan;
      plan.first_token = query_starts[s];
      plan.queries = query_starts[s + 1] - query_starts[s];
      plan.first_position = context_lengths[s] - plan.queries;
      plan.context_start = context_starts[s];
      plan.pages = page_list + page_starts[s];
      plans_[s] = plan;
    }
  }

  // Tokens that no sequence owns are padding; their rows must not keep what was in memory before.
  void clear_unowned_rows() {
    const int64_t tokens = launch_.arguments[0].size[0], row = parameters_.heads * v_.size;
    const int64_t first = plans_.empty() ? tokens : plans_.front().first_token;
    const int64_t end = plans_.empty() ? tokens : plans_.back().first_token + plans_.back().queries;
    clear_rows(0, first, row);
    clear_rows(end, tokens, row);
  }

  void clear_rows(int64_t begin, int64_t end, int64_t size) const {
    if (!tiles_.data) {
      std::memset(y_ + begin * size, 0, static_cast<size_t>((end - begin) * size) * sizeof(float));
      return;
    }
    for (; begin < end; ++begin)
      for (int64_t column = 0; column < size; column += kTileColumns)
        std::memset(tile_row(tiles_, begin, column), 0, kTileRowBytes);
  }

  const SequencePlan& plan_of(int64_t task) const {
    auto after = std::upper_bound(plans_.begin(), plans_.end(), task,
                                  [](int64_t value, const SequencePlan& plan) { return value < plan.first_task; });
    return *(after - 1);
  }

  // Of a sequence, the last blocks go first, because they see the most keys. With many heads a thread, blocks of the
  // same head follow each other, for which a thread lays out keys once.
  Block block_of(int64_t task) const {
    const SequencePlan& plan = plan_of(task);
    const int64_t local = task - plan.first_task;
    if (plan.split) return {&plan, 0, plan.queries, local / plan.segments};
    const int64_t head = heads_first_ ? local / plan.blocks : local % k_.kv_heads;
    const int64_t block = heads_first_ ? local % plan.blocks : local / k_.kv_heads;
    const int64_t first = (plan.blocks - 1 - block) * plan.queries_per_block;
    return {&plan, first, std::min(plan.queries_per_block, plan.queries - first), head};
  }

  void run_task(int64_t task, int64_t next, ThreadScratch& scratch) {
    const Block block = block_of(task);
    const SequencePlan& plan = *block.plan;
    const bool wide = load_queries(block, scratch);
    if (wide && next >= 0) add_following(block_of(next), scratch);
    if (plan.split) {
      const int64_t segment = (task - plan.first_task) % plan.segments;
      return attend_to(partial_results(plan, block.kv_head, segment), block, segment_range(range_of(block), segment),
                       wide, scratch);
    }
    if (plan.segments == 1 && wide) {
      for_each_row(block, scratch.rows.count,
                   [&](int64_t row, int64_t, int64_t head) { scratch.targets[row] = place_of(head); });
      scratch.rows.divided = true;
      scratch.rows.in_tiles = tiles_.data != nullptr;
      return attend(block, range_of(block), wide, scratch);
    }
    for (int64_t segment = 0; segment < plan.segments; ++segment) {
      const KeyRange range = plan.segments == 1 ? range_of(block) : segment_range(range_of(block), segment);
      attend_to(segment == 0 ? scratch.folded : scratch.segment, block, range, wide, scratch);
      if (segment > 0) fold(scratch.folded, scratch.segment, scratch.rows.count);
    }
    finish(block, scratch.folded);
  }

  // Where the results of a head go, which is counted over all tokens.
  float* place_of(int64_t head) const {
    if (!tiles_.data) return y_ + head * v_.size;
    const int64_t token = head / parameters_.heads, column = head % parameters_.heads * v_.size;
    return reinterpret_cast<float*>(tile_row(tiles_, token, column));
  }

  KeyRange range_of(const Block& block) const {
    return seen_range(*block.plan, block.first_query, block.queries, window_);
  }

  // Sets up the rows of a block; whether they go the wide way.
  bool load_queries(const Block& block, ThreadScratch& scratch) {
    AttentionRows& rows = scratch.rows;
    rows.count = block.queries * heads_per_kv_;
    rows.lanes = round_up(rows.count, functions_.lanes);
    rows.head_size = k_.size;
    rows.v_size = v_.size;
    rows.soft_cap = parameters_.soft_cap;
    rows.window = static_cast<int32_t>(window_);
    for_each_row(block, rows.count, [&](int64_t row, int64_t query, int64_t head) {
      scratch.sources[row] = q_ + head * k_.size;
      rows.positions[row] = static_cast<int32_t>(block.plan->first_position + query);
    });
    for (int64_t row = rows.count; row < rows.lanes; ++row) rows.positions[row] = rows.positions[rows.count - 1];
    rows.factor = parameters_.soft_cap > 0 ? parameters_.scale : parameters_.scale * kLog2E;
    rows.following = 0;
    scratch.new_queries = rows.count > functions_.most_narrow_rows;
    if (scratch.new_queries) return true;
    for (int64_t row = 0; row < rows.count; ++row) {
      vectors_.scale(scratch.sources[row], rows.factor, rows.q + row * k_stride_, k_.size);
      clear_end(rows.q + row * k_stride_, k_.size, k_stride_);
    }
    return false;
  }

  void add_following(const Block& next, ThreadScratch& scratch) const {
    AttentionRows& rows = scratch.rows;
    rows.following = std::min(next.queries * heads_per_kv_, kMostFollowing);
    for_each_row(next, rows.following,
                 [&](int64_t row, int64_t, int64_t head) { scratch.sources[rows.count + row] = q_ + head * k_.size; });
  }

  // f(row, query, head) for the first `count` rows of a block; the head counted over all tokens before.
  template <class F>
  void for_each_row(const Block& block, int64_t count, F f) const {
    for (int64_t query = block.first_query, row = 0; row < count; ++query) {
      const int64_t head = (block.plan->first_token + query) * parameters_.heads + block.kv_head * heads_per_kv_;
      for (int64_t i = 0; i < heads_per_kv_ && row < count; ++i, ++row) f(row, query, head + i);
    }
  }

  static void clear_end(float* vector, int64_t size, int64_t stride) {
    for (int64_t i = size; i < stride; ++i) vector[i] = 0;
  }

  // The rows meet the keys of `range`.
  void attend(const Block& block, KeyRange range, bool wide, ThreadScratch& scratch) {
    const int64_t newest_of_all = block.plan->first_position + block.first_query;  // what every row sees ends here …
    const int64_t oldest_of_all = newest_of_all + block.queries - window_;         // … and begins here
    const int64_t most_keys = wide ? functions_.most_wide_keys : kKeyBlock;
    for (int64_t begin = range.begin; begin < range.end;) {
      const int64_t end = std::min((begin / most_keys + 1) * most_keys, range.end);
      AttentionKeys keys;
      keys.count = end - begin;
      keys.first_position = static_cast<int32_t>(begin);
      keys.new_queries = std::exchange(scratch.new_queries, false);
      keys.first = begin == range.begin;
      keys.last = end == range.end;
      keys.all_seen = end - 1 <= newest_of_all && begin >= oldest_of_all;
      if (wide && functions_.wide_takes_bf16) {
        lay_out(block, {begin, end}, keys, scratch);
      } else {
        scratch.laid_out_range = {};
        keys.k = fetch(k_, block, begin, keys.count, k_stride_, scratch.k);
        keys.v = fetch(v_, block, begin, keys.count, v_stride_, scratch.v);
      }
      const int64_t next = std::min(kKeyBlock, range.end - end);  // the first of the next keys
      k_.prefetch(*block.plan, block.kv_head, end, next);
      v_.prefetch(*block.plan, block.kv_head, end, next);
      (wide ? functions_.attend_wide : functions_.attend_narrow)(scratch.rows, keys);
      begin = end;
    }
  }

  // Vectors as f32, `stride` apart: where they lie when that is their form, else converted into `target`.
  const float* fetch(const PagedVectors& state, const Block& block, int64_t position, int64_t count, int64_t stride,
                     float* target) const {
    const float* in_place = nullptr;
    state.for_each_run(*block.plan, block.kv_head, position, count, [&](const char* memory, int64_t run, int64_t done) {
      if (state.dtype == DType::kF32 && state.size == stride && run == count && count % 4 == 0) {
        in_place = reinterpret_cast<const float*>(memory);
      } else if (state.size == stride) {
        vectors_.widen(state.dtype, memory, target + done * stride, run * stride);
      } else {
        for (int64_t i = 0; i < run; ++i) {
          float* vector = target + (done + i) * stride;
          vectors_.widen(state.dtype, memory + i * state.vector_bytes, vector, state.size);
          clear_end(vector, state.size, stride);
        }
      }
    });
    return in_place ? in_place : target;
  }

  // Keys as bf16, unless they still lie there from a block before.
  void lay_out(const Block& block, KeyRange range, AttentionKeys& keys, ThreadScratch& scratch) const {
    const KeyRange there = scratch.laid_out_range;
    keys.laid_out = block.plan == scratch.laid_out.plan && block.kv_head == scratch.laid_out.kv_head &&
                    there.begin == range.begin && there.end >= range.end;
    keys.k_bf16 = reinterpret_cast<const uint16_t*>(scratch.k);
    keys.v_bf16 = reinterpret_cast<const uint16_t*>(scratch.v);
    if (keys.laid_out) return;
    fetch_bf16(k_, block, range.begin, keys.count, k_stride_, scratch.k);
    fetch_bf16(v_, block, range.begin, keys.count, v_stride_, scratch.v);
    scratch.laid_out = block;
    scratch.laid_out_range = range;
  }

  // Vectors of a bf16 state as they are, `stride` apart, and zeros to a multiple of 32 vectors.
  void fetch_bf16(const PagedVectors& state, const Block& block, int64_t position, int64_t count, int64_t stride,
                  float* target) const {
    auto* vectors = reinterpret_cast<uint16_t*>(target);
    const auto row_bytes = static_cast<size_t>(stride) * sizeof(uint16_t),
               bytes = static_cast<size_t>(state.vector_bytes);
    state.for_each_run(*block.plan, block.kv_head, position, count, [&](const char* memory, int64_t run, int64_t done) {
      if (bytes == row_bytes) {
        std::memcpy(vectors + done * stride, memory, static_cast<size_t>(run) * bytes);
        return;
      }
      for (int64_t i = 0; i < run; ++i, memory += bytes) {
        uint16_t* vector = vectors + (done + i) * stride;
        std::memcpy(vector, memory, bytes);
        std::memset(vector + state.size, 0, row_bytes - bytes);
      }
    });
    std::memset(vectors + count * stride, 0, static_cast<size_t>(round_up(count, 32) - count) * row_bytes);
  }

  void attend_to(const RowResults& target, const Block& block, KeyRange range, bool wide, ThreadScratch& scratch) {
    AttentionRows& rows = scratch.rows;
    rows.divided = rows.in_tiles = false;
    for (int64_t row = 0; row < rows.count; ++row) scratch.targets[row] = target.values + row * v_stride_;
    attend(block, range, wide, scratch);
    const auto bytes = [](int64_t floats) { return static_cast<size_t>(floats) * sizeof(float); };
    std::memcpy(target.greatest, rows.greatest, bytes(rows.count));
    std::memcpy(target.sums, rows.sums, bytes(rows.count));
    if (!wide) std::memcpy(target.values, rows.result, bytes(rows.count * v_stride_));
  }

  RowResults partial_results(const SequencePlan& plan, int64_t head, int64_t segment) const {
    const int64_t rows = plan.queries * heads_per_kv_;
    float* begin = partial_ + plan.first_partial + (head * plan.segments + segment) * plan.partial_floats;
    return {begin, begin + rows, begin + 2 * rows};
  }

  void fold(const RowResults& folded, const RowResults& segment, int64_t rows) const {
    for (int64_t row = 0; row < rows; ++row) {
      const float greatest = std::max(folded.greatest[row], segment.greatest[row]);
      const float a = std::exp2(folded.greatest[row] - greatest), b = std::exp2(segment.greatest[row] - greatest);
      float *into = folded.values + row * v_stride_, *from = segment.values + row * v_stride_;
      vectors_.blend(into, a, from, b, into, v_.size);
      folded.sums[row] = folded.sums[row] * a + segment.sums[row] * b;
      folded.greatest[row] = greatest;
    }
  }

  void fold_split(const SequencePlan& plan, int64_t head) {
    const RowResults folded = partial_results(plan, head, 0);
    for (int64_t segment = 1; segment < plan.segments; ++segment)
      fold(folded, partial_results(plan, head, segment), plan.queries * heads_per_kv_);
    finish({&plan, 0, plan.queries, head}, folded);
  }

  void finish(const Block& block, const RowResults& results) {
    for_each_row(block, block.queries * heads_per_kv_, [&](int64_t row, int64_t, int64_t head) {
      float* values = results.values + row * v_stride_;
      vectors_.scale(values, 1 / results.sums[row], tiles_.data ? values : y_ + head * v_.size, v_.size);
      if (tiles_.data)
        put_in_tiles(tiles_, head / parameters_.heads, head % parameters_.heads * v_.size, values, v_.size);
    });
  }

  const AttentionParameters& parameters_;
  const Launch& launch_;
  const AttentionFunctions& functions_;
  const VectorFunctions& vectors_;
  const float* q_;
  float* y_;
  TiledRows tiles_;  // instead of y, if there is data
  PagedVectors k_, v_;
  bool heads_first_ = false;
  int64_t heads_per_kv_, window_, k_stride_, v_stride_;
  std::span<SequencePlan> plans_;
  std::byte* thread_scratch_ = nullptr;
  int64_t thread_bytes_ = 0;
  float* partial_ = nullptr;
};

class AttentionKernel final : public Kernel {
 public:
  AttentionKernel(const AttentionParameters& parameters, CpuLevel level) : parameters_(parameters), level_(level) {}
  AnyOp op() const override {
    const AttentionParameters& p = parameters_;
    return Attention{.heads = p.heads, .scale = p.scale, .soft_cap = p.soft_cap, .window = p.window};
  }
  void run(const Launch& launch) const override { AttentionRun(parameters_, level_, launch).run(); }

 private:
  AttentionParameters parameters_;
  CpuLevel level_;
};

}  // namespace

int64_t attention_scratch_bytes(const AttentionParameters& parameters, CpuLevel level, int64_t head_size,
                                int64_t v_head_size, int64_t sequences) {
  const AttentionFunctions& functions = attention_functions(level);
  const int64_t multiple = functions.stride_multiple;
  ScratchPieces pieces(nullptr);
  pieces.take<SequencePlan>(sequences);
  pieces.take<float>(parameters.partial_floats);
  return pieces.bytes() + parameters.threads * AttentionRun::scratch_of_thread(functions, round_up(head_size, multiple),
                                                                               round_up(v_head_size, multiple));
}

int64_t attention_partial_floats(CpuLevel level, int64_t rows, int64_t kv_heads, int64_t v_head_size, int64_t positions,
                                 int64_t sequences) {
  const int64_t v_stride = round_up(v_head_size, attention_functions(level).stride_multiple);
  return kv_heads * (positions / kSegment + 2 * sequences) * rows * (v_stride + 2);
}

bool attention_gives_tiles(CpuLevel level, int64_t tokens, int64_t heads, int64_t v_head_size, int64_t block) {
  return level >= CpuLevel::kAvx512 && v_head_size % kTileColumns == 0 && block > 0 && block % v_head_size == 0 &&
         tiles_fit(tokens, heads * v_head_size);
}

std::unique_ptr<Kernel> make_attention(std::string_view parameters, CpuLevel level) {
  auto parsed = parse_kernel_parameters<AttentionParameters>(parameters);
  check_tiles_block(parsed.gives_tiles);
  if (parsed.gives_tiles > 0 && level < CpuLevel::kAvx512)
    fail(ErrorCode::kIncompatible, "only attention of AVX-512 and AMX hands over tiles; rebuild the engine");
  if (parsed.heads < 1 || parsed.threads < 1 || parsed.window < 0 || parsed.partial_floats < 0)
    fail(ErrorCode::kIncompatible, "found parameters out of range in {}; rebuild the engine", parameters);
  return std::make_unique<AttentionKernel>(parsed, level);
}

}  // namespace ingot
