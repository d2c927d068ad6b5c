#include "weights/make_weight.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <memory>
#include <utility>

#include "base/error.h"
#include "weights/element_source.h"

namespace ingot {

namespace {

// What is made at a time, twice: small, because fresh buffers cost a page fault per 4 KiB for every weight; larger only
// where the threads would not get a few tasks each.
constexpr int64_t kChunkBytes = int64_t{2} << 20, kMaxChunkBytes = int64_t{8} << 20;
constexpr int64_t kTileElements = 32768;                 // made at a time by one thread
constexpr int64_t kTileBudgetBytes = int64_t{32} << 20;  // for the intermediate results of all threads
constexpr int64_t kRowsTogether = 64;                    // rows of a transpose that are worth gathering at once

struct Free {
  void operator()(std::byte* bytes) const { ::operator delete[](bytes, std::align_val_t{64}); }
};
using Buffer = std::unique_ptr<std::byte[], Free>;

// Two buffers in turn: while the pool's threads fill one, the calling thread hands the other to the sink.
class Pipeline {
 public:
  Pipeline(ThreadPool& pool, const WeightSink& sink) : pool_(pool), sink_(sink) {}

  // Makes the next `bytes` bytes by task(index, buffer) for each index in [0, tasks), spread over the threads.
  template <class F>
  void make(int64_t bytes, int64_t tasks, F&& task) {
    Buffer& buffer = buffers_[static_cast<size_t>(turn_)];
    if (!buffer || capacity_[static_cast<size_t>(turn_)] < bytes) {
      buffer.reset();
      buffer.reset(static_cast<std::byte*>(::operator new[](static_cast<size_t>(bytes), std::align_val_t{64})));
      capacity_[static_cast<size_t>(turn_)] = bytes;
    }
    std::span<const std::byte> sent = std::exchange(pending_, {});
    std::atomic<int64_t> next{0};
    std::atomic<bool> failed{false};
    std::exception_ptr error;  // of the sink, or memory that ran out
    auto guarded = [&](auto&& work) {
      try {
        work();
      } catch (...) {
        if (!failed.exchange(true)) error = std::current_exception();
      }
    };
    pool_.run([&](int thread) {
      if (thread == 0 && !sent.empty()) guarded([&] { sink_(sent); });
      guarded([&] {
        for (int64_t i; !failed && (i = next.fetch_add(1)) < tasks;) task(i, buffer.get());
      });
    });
    if (error) std::rethrow_exception(error);
    pending_ = {buffer.get(), static_cast<size_t>(bytes)};
    turn_ ^= 1;
  }

  // Hands over what make() left.
  void send() {
    if (!pending_.empty()) sink_(std::exchange(pending_, {}));
  }

 private:
  ThreadPool& pool_;
  const WeightSink& sink_;
  std::array<Buffer, 2> buffers_;
  std::array<int64_t, 2> capacity_{};
  int turn_ = 0;
  std::span<const std::byte> pending_;
};

// How much a thread makes at a time: at most `wanted` units of `elements` elements each, no more than fit into its
// share of the budget at every level of the recipe; 0 when not even one does.
int64_t units_at_once(int64_t wanted, int64_t elements, int depth, const ThreadPool& pool) {
  return std::min(wanted, kTileBudgetBytes / pool.size() / depth / size_of(DType::kF64) / elements);
}

// Whole rows of a transpose where possible.
int64_t tile_elements(const ElementSource& source, int depth, const ThreadPool& pool) {
  int64_t row = source.granularity();
  return row == 1 ? kTileElements : std::max(kTileElements, units_at_once(kRowsTogether, row, depth, pool) * row);
}

// How many units of `unit_bytes` make a chunk: whole tasks of `units` each, a few for every thread.
int64_t units_in_chunk(int64_t unit_bytes, int64_t units, const ThreadPool& pool) {
  int64_t bytes = std::clamp(unit_bytes * units * pool.size() * 2, kChunkBytes, kMaxChunkBytes);
  return std::max<int64_t>(1, bytes / unit_bytes / units) * units;
}

// What lies in a checkpoint as it is wanted is copied as well: one thread that writes from another file's mapping takes
// its page faults in the middle of the write, and twice as long.
void stream_rows(const ElementSource& source, int depth, const ThreadPool& pool, Pipeline& pipeline) {
  int64_t size = size_of(source.type().dtype), elements = source.type().elements();
  int64_t tile = std::min(tile_elements(source, depth, pool), kMaxChunkBytes / size);
  int64_t chunk = units_in_chunk(size, tile, pool);
  for (int64_t begin = 0, count; begin < elements; begin += count) {
    count = std::min(chunk, elements - begin);
    pipeline.make(count * size, (count + tile - 1) / tile, [&](int64_t i, std::byte* out) {
      source.fill(begin + i * tile, std::min(tile, count - i * tile), out + i * tile * size);
    });
  }
  pipeline.send();
}

// --- packed weights -----------------------------------------------------------------------------------------------

const WeightLayout& layout_of(const TensorType& type, const LayoutLookup& find_layout) {
  const WeightLayout* layout = find_layout(type.layout);
  if (!layout)
    fail(ErrorCode::kIncompatible, "the weight layout \"{}\" is unknown to this version of Ingot", type.layout);
  TensorType plain{type.dtype, type.shape, ""};
  if (!layout->accepts(plain))
    fail(ErrorCode::kIncompatible, "the weight layout \"{}\" cannot hold {}", type.layout, print(plain));
  return *layout;
}

// How a [n, k] or [experts, n, k] weight lies in blocks.
struct Blocks {
  const WeightLayout& layout;
  DType dtype;
  int64_t matrices, rows, cols;  // of the weight
  int64_t per_matrix, bytes;     // blocks of a matrix, bytes of a block

  Blocks(const WeightLayout& layout_, const TensorType& type) : layout(layout_), dtype(type.dtype) {
    std::vector<int64_t> sizes = type.sizes();
    matrices = sizes.size() == 3 ? sizes[0] : 1;
    rows = sizes[sizes.size() - 2];
    cols = sizes.back();
    per_matrix = (rows + layout.rows_per_block - 1) / layout.rows_per_block;
    bytes = layout.packed_bytes({dtype, {layout.rows_per_block, cols}, ""});
  }
  int64_t count() const { return matrices * per_matrix; }

  // Packs the blocks [begin, end); the rows of neighbours in one matrix are made together.
  void pack(const ElementSource& source, int64_t begin, int64_t end, std::byte* out) const {
    while (begin < end) {
      int64_t matrix = begin / per_matrix, last = std::min(end, (matrix + 1) * per_matrix);
      int64_t row = (begin - matrix * per_matrix) * layout.rows_per_block;
      int64_t row_end = std::min(rows, row + (last - begin) * layout.rows_per_block);
      Elements elements(source, (matrix * rows + row) * cols, (row_end - row) * cols);
      const std::byte* in = elements.data();
      for (; begin < last; ++begin, row += layout.rows_per_block, out += bytes) {
        int64_t present = std::min(layout.rows_per_block, row_end - row);
        layout.pack(dtype, in, present, cols, out);
        in += present * cols * size_of(dtype);
      }
    }
  }
};

void stream_blocks(const ElementSource& source, int depth, const WeightLayout& layout, const ThreadPool& pool,
                   Pipeline& pipeline) {
  Blocks blocks(layout, source.type());
  int64_t total = layout.packed_bytes({source.type().dtype, source.type().shape, ""});
  if (blocks.bytes <= 0 || blocks.count() * blocks.bytes != total)
    fail(ErrorCode::kIncompatible, "the weight layout \"{}\" stores {} in {} bytes, which is not {} blocks of {}",
         layout.name, print(source.type()), total, blocks.count(), blocks.bytes);
  int64_t wanted = source.granularity() == 1 ? 1 : kRowsTogether / layout.rows_per_block;
  int64_t together = std::max<int64_t>(1, units_at_once(wanted, layout.rows_per_block * blocks.cols, depth, pool));
  int64_t chunk = units_in_chunk(blocks.bytes, together, pool);
  for (int64_t begin = 0; begin < blocks.count(); begin += chunk) {
    int64_t count = std::min(chunk, blocks.count() - begin);
    pipeline.make(count * blocks.bytes, (count + together - 1) / together, [&](int64_t i, std::byte* out) {
      int64_t first = i * together, last = std::min(count, first + together);
      blocks.pack(source, begin + first, begin + last, out + first * blocks.bytes);
    });
  }
  pipeline.send();
}

}  // namespace

TensorType weight_type(const Recipe& recipe, const Checkpoint& checkpoint) {
  return infer(recipe, [&](std::string_view name) { return checkpoint.type(name); });
}

int64_t weight_bytes(const TensorType& type, const LayoutLookup& find_layout) {
  if (type.layout.empty()) return type.bytes();
  return layout_of(type, find_layout).packed_bytes({type.dtype, type.shape, ""});
}

void make_weight(const Recipe& recipe, const Checkpoint& checkpoint, ThreadPool& pool, const LayoutLookup& find_layout,
                 const WeightSink& sink) {
  std::unique_ptr<const ElementSource> source = make_source(recipe, checkpoint);
  const std::string& layout = source->type().layout;
  Pipeline pipeline(pool, sink);
  std::vector<std::string> tensors = leaves(recipe);
  for (const std::string& name : tensors) checkpoint.will_need(name);
  if (layout.empty()) {
    stream_rows(*source, recipe.node().depth, pool, pipeline);
  } else {
    stream_blocks(*source, recipe.node().depth, layout_of(source->type(), find_layout), pool, pipeline);
  }
  for (const std::string& name : tensors) checkpoint.drop(name);
}

}  // namespace ingot
