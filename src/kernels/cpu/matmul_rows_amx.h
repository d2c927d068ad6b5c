// What becomes of finished sums, beside the products that follow them. Included into the namespace of the AMX products,
// after tile_at, the layout of sums and the gates.

// What is written beside a product: nothing; gates in place; whole lines of sums; or anything, with cases and calls.
enum class Putting { kNothing, kGates, kLines, kAny };

// Rows of finished sums that wait to be written to y. Whole lines that nothing will be added to go past the caches: y
// is larger than they are, and its rows are often so far apart that they evict each other.
class WaitingRows {
 public:
  // The next row, how many there are, and where they go: to y, or to packed tiles. Apart from what does not change, so
  // that a loop full of barriers can keep it in registers.
  struct Next {
    float *sums = nullptr, *y = nullptr;
    char* tile = nullptr;
    int64_t count = 0;
  };

  WaitingRows() = default;
  WaitingRows(const MatmulTask& task, float* sums, int64_t row, int64_t column, int64_t columns)
      : task_(&task), gate_(task.function), y_stride_(task.columns()), column_(column), columns_(columns) {
    end_ = task.rows - row < 16 ? task.rows : row + 16;
    next_ = {sums, task.y + row * y_stride_ + column, nullptr, end_ - row};
    if (task.packed_y) next_.tile = tile_of_y(task, row, column);
    plain_ = task.gated || (!task.bias && !task.residual && task.function == ActivationFunction::kNone);
    bool lines = columns % 16 == 0 && y_stride_ % 16 == 0 && reinterpret_cast<uintptr_t>(next_.y) % 64 == 0;
    past_caches_ = plain_ && lines;
    if (task.gated)
      putting_ = has_sigmoid_gate(task.function) && (next_.tile || past_caches_) ? Putting::kGates : Putting::kAny;
    else
      putting_ = past_caches_ && columns == 2 * kStripColumns ? Putting::kLines : Putting::kAny;
  }

  Putting putting() const { return next_.count > 0 ? putting_ : Putting::kNothing; }
  Next next() const { return next_; }
  void go_on_at(const Next& next) { next_ = next; }

  template <Putting kPutting>
  INGOT_INLINE void put_one(Next& next) const {
    if constexpr (kPutting == Putting::kGates) {
      put_gated(next, apply_gate(next));
    } else if constexpr (kPutting == Putting::kLines) {
      _mm512_stream_ps(next.y, _mm512_load_ps(next.sums));
      _mm512_stream_ps(next.y + 16, _mm512_load_ps(next.sums + kTileFloats));
    } else {
      put_any(next);
    }
    --next.count;
    next.sums += 16;
    if (next.tile)
      next.tile += 64;
    else
      next.y += y_stride_;
  }
  void put_all() {
    while (next_.count > 0) put_one<Putting::kAny>(next_);
  }

 private:
  // The 16 columns are half of a tile's.
  static char* tile_of_y(const MatmulTask& task, int64_t row, int64_t column) {
    int64_t begin = column / task.y_block * task.y_block, left = task.columns() - begin, within = column - begin;
    char* tiles = tile_at(task.packed_y, task.rows, begin, left < task.y_block ? left : task.y_block, row / 16);
    return tiles + within / 32 * kTileBytes + within % 32 * 2;
  }

  INGOT_INLINE __m512 apply_gate(const Next& next) const {
    return gate_.apply(_mm512_load_ps(next.sums), _mm512_load_ps(next.sums + kTileFloats));
  }
  INGOT_INLINE void put_gated(const Next& next, __m512 value) const {
    if (next.tile)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(next.tile), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value)));
    else
      put(next, 0, value);
  }
  INGOT_INLINE void put(const Next& next, int64_t column, __m512 value) const {
    if (past_caches_)
      _mm512_stream_ps(next.y + column, value);
    else
      store_floats(next.y + column, value, columns_ - column);
  }

  __attribute__((noinline)) void put_any(Next next) const {
    if (task_->gated) {
      if (has_sigmoid_gate(task_->function)) return put_gated(next, apply_gate(next));
      task_->gate(task_->function, next.sums, next.sums + kTileFloats, next.sums, 16);
      return put_gated(next, _mm512_load_ps(next.sums));
    }
    for (int64_t c = 0; c < columns_; c += 16) put(next, c, _mm512_load_ps(next.sums + c * 16));
    const int64_t row = end_ - next.count;
    if (!plain_) finish(*task_, row, row + 1, column_, column_ + columns_);
  }

  const MatmulTask* task_ = nullptr;
  SigmoidGate gate_;
  Putting putting_ = Putting::kNothing;
  Next next_;
  int64_t y_stride_ = 0, end_ = 0, column_ = 0, columns_ = 0;
  bool plain_ = false, past_caches_ = false;
};
