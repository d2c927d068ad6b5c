// What becomes of finished sums beside the products that follow them. Included into the namespace of the AMX products,
// after tile_at and the layout of sums.

// silu(gate) * up: product / (1 + exp(-gate)) in four parts, each a short chain of dependent operations.
struct SiluPower {  // -gate / ln 2 = n + f; where exp is larger than e^87 its sum with 1 would have no reciprocal
  __m512 n, f;
  explicit INGOT_INLINE SiluPower(__m512 gate) {
    __m512 power = _mm512_mul_ps(_mm512_max_ps(gate, _mm512_set1_ps(-87.0f)), _mm512_set1_ps(-1.44269504f));
    n = _mm512_roundscale_ps(power, 8);
    f = _mm512_sub_ps(power, n);
  }
};
// Three more coefficients of 2^f, down from kExp2[kFrom - 1].
template <int kFrom>
static INGOT_INLINE __m512 add_terms(__m512 p, __m512 f) {
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kExp2[kFrom - 1]));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kExp2[kFrom - 2]));
  return _mm512_fmadd_ps(p, f, _mm512_set1_ps(kExp2[kFrom - 3]));
}
static INGOT_INLINE __m512 silu_low(__m512 f) { return add_terms<6>(_mm512_set1_ps(kExp2[6]), f); }
static INGOT_INLINE __m512 silu_sum(__m512 high, __m512 n) {
  return _mm512_add_ps(_mm512_scalef_ps(high, n), _mm512_set1_ps(1.0f));
}
static INGOT_INLINE __m512 silu_quotient(__m512 product, __m512 sum, __m512 reciprocal) {
  __m512 correction = _mm512_fnmadd_ps(sum, reciprocal, _mm512_set1_ps(2.0f));
  return _mm512_mul_ps(product, _mm512_mul_ps(reciprocal, correction));
}

static INGOT_INLINE __m512 silu_times_up(const float* row) {
  __m512 gate = _mm512_load_ps(row), product = _mm512_mul_ps(gate, _mm512_load_ps(row + kTileFloats));
  SiluPower power(gate);
  __m512 sum = silu_sum(add_terms<3>(silu_low(power.f), power.f), power.n);
  return silu_quotient(product, sum, _mm512_rcp14_ps(sum));
}

// The same for a row after the other, a part of each in every step: operations that wait for others hold places that
// loads and products in flight need. After four more steps a row is done.
class SiluSteps {
 public:
  INGOT_INLINE __m512 advance(const float* row) {
    __m512 done = silu_quotient(product4_, sum_, reciprocal_);
    sum_ = silu_sum(high_, n3_);
    reciprocal_ = _mm512_rcp14_ps(sum_);
    product4_ = product3_;
    high_ = add_terms<3>(low_, f2_);
    product3_ = product2_;
    n3_ = n2_;
    low_ = silu_low(f1_);
    product2_ = product1_;
    n2_ = n1_;
    f2_ = f1_;
    __m512 gate = _mm512_load_ps(row);
    product1_ = _mm512_mul_ps(gate, _mm512_load_ps(row + kTileFloats));
    SiluPower power(gate);
    n1_ = power.n;
    f1_ = power.f;
    return done;
  }

 private:
  __m512 product1_ = _mm512_setzero_ps(), n1_ = product1_, f1_ = product1_;
  __m512 product2_ = product1_, n2_ = product1_, f2_ = product1_, low_ = product1_;
  __m512 product3_ = product1_, n3_ = product1_, high_ = product1_;
  __m512 product4_ = product1_, sum_ = product1_, reciprocal_ = product1_;
};

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

  // Whole tiles of silu and up can be made in steps.
  bool steps_of_silu() const {
    bool whole = end_ - row_ == 16 && (y_tile_ || past_caches_);
    return whole && task_->gated && task_->function == ActivationFunction::kSilu;
  }
  INGOT_INLINE const float* sums() const { return sums_; }
  INGOT_INLINE void put_next(__m512 value) {
    if (y_tile_) {
      put_half_line(value);
    } else {
      _mm512_stream_ps(y_, value);
      y_ += task_->columns();
    }
    ++row_;
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
