// What becomes of finished sums, beside the products that follow them. Included into the namespace of the AMX products,
// after tile_at and the layout of sums.

// silu(gate) * up of 16 columns, up a tile behind gate, as product / (1 + exp(-gate)). A division would hold its port
// for as long as a product of tiles takes: a reciprocal of 14 bits and a Newton step give the same to a unit in the
// last place.
static INGOT_INLINE __m512 silu_times_up(const float* row) {
  const __m512 one = _mm512_set1_ps(1.0f), two = _mm512_set1_ps(2.0f);
  __m512 gate = _mm512_load_ps(row), product = _mm512_mul_ps(gate, _mm512_load_ps(row + kTileFloats));
  // -gate / ln 2 = n + f. Beyond e^87 the sum would have no reciprocal.
  __m512 power = _mm512_mul_ps(_mm512_max_ps(gate, _mm512_set1_ps(-87.0f)), _mm512_set1_ps(-1.44269504f));
  __m512 n = _mm512_roundscale_ps(power, _MM_FROUND_NO_EXC), f = _mm512_sub_ps(power, n);
  __m512 p = _mm512_set1_ps(kExp2[6]);
#pragma GCC unroll 6
  for (int i = 5; i >= 0; --i) p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kExp2[i]));
  __m512 sum = _mm512_add_ps(_mm512_scalef_ps(p, n), one), reciprocal = _mm512_rcp14_ps(sum);
  reciprocal = _mm512_mul_ps(reciprocal, _mm512_fnmadd_ps(sum, reciprocal, two));
  return _mm512_mul_ps(product, reciprocal);
}

// Rows of finished sums that wait to be written to y. Whole lines that nothing will be added to go past the caches: y
// is larger than they are, and its rows are often so far apart that they evict each other.
class WaitingRows {
 public:
  WaitingRows() = default;
  WaitingRows(const MatmulTask& task, float* sums, int64_t row, int64_t column, int64_t columns)
      : task_(&task), sums_(sums), row_(row), column_(column), columns_(columns) {
    if (task.packed_y) y_tile_ = tile_of_y(task, row, column);
    end_ = task.rows - row < 16 ? task.rows : row + 16;
    y_ = task.y + row * task.columns() + column;
    plain_ = task.gated || (!task.bias && !task.residual && task.function == ActivationFunction::kNone);
    bool lines = columns % 16 == 0 && task.columns() % 16 == 0 && reinterpret_cast<uintptr_t>(y_) % 64 == 0;
    past_caches_ = plain_ && lines;
  }

  bool any() const { return row_ < end_; }
  INGOT_INLINE void put_one() {
    if (y_tile_)
      put_half_line(gated());
    else if (task_->gated)
      put(0, gated());
    else
      for (int64_t c = 0; c < columns_; c += 16) put(c, _mm512_load_ps(sums_ + c * 16));
    if (!plain_) finish(*task_, row_, row_ + 1, column_, column_ + columns_);
    ++row_;
    sums_ += 16;
    y_ += task_->columns();
  }
  void put_all() {
    while (any()) put_one();
  }

 private:
  // The 16 columns are half of a tile's.
  static char* tile_of_y(const MatmulTask& task, int64_t row, int64_t column) {
    int64_t begin = column / task.y_block * task.y_block, left = task.columns() - begin, within = column - begin;
    char* tiles = tile_at(task.packed_y, task.rows, begin, left < task.y_block ? left : task.y_block, row / 16);
    return tiles + within / 32 * kTileBytes + within % 32 * 2;
  }
  INGOT_INLINE void put_half_line(__m512 value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y_tile_), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value)));
    y_tile_ += 64;
  }

  // What gates mostly have is done in place, without a call.
  INGOT_INLINE __m512 gated() const {
    if (task_->function == ActivationFunction::kSilu) return silu_times_up(sums_);
    task_->gate(task_->function, sums_, sums_ + kTileFloats, sums_, 16);
    return _mm512_load_ps(sums_);
  }
  INGOT_INLINE void put(int64_t column, __m512 value) {
    past_caches_ ? _mm512_stream_ps(y_ + column, value) : store_floats(y_ + column, value, columns_ - column);
  }

  const MatmulTask* task_ = nullptr;
  float *sums_ = nullptr, *y_ = nullptr;
  char* y_tile_ = nullptr;  // where the next row goes if y is handed over in tiles
  int64_t row_ = 0, end_ = 0, column_ = 0, columns_ = 0;
  bool plain_ = false, past_caches_ = false;
};
