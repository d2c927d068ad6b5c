// Four floats in the compiler's own vector type: for machines with nothing better.
struct V {
  using Reg = float __attribute__((vector_size(16)));
  using Int = int32_t __attribute__((vector_size(16)));
  static constexpr int kLanes = 4;
  static constexpr int kAccumulators = 12;  // of one register tile
  // Strips that the streaming form works on at once.
  static constexpr int stream_strips(int rows) { return rows == 1 ? 2 : 1; }
  static constexpr int kGemmUnroll = 1;  // steps of k between prefetches
  static constexpr int kStreamRows = 3;
  static constexpr int kDotTileRows = 4;  // rows of x, and features for so many, of the row-major streaming form
  static constexpr int dot_columns(int rows) { return rows <= 2 ? 4 : 2; }

  static INGOT_INLINE Reg zero() { return Reg{}; }
  static INGOT_INLINE Reg set(float a) { return Reg{a, a, a, a}; }
  static INGOT_INLINE Reg broadcast(const float* p) { return set(*p); }
  static INGOT_INLINE Reg load(const float* p) {
    Reg r;
    __builtin_memcpy(&r, p, sizeof r);
    return r;
  }
  static INGOT_INLINE void store(float* p, Reg r) { __builtin_memcpy(p, &r, sizeof r); }
  static INGOT_INLINE Reg load_partial(const float* p, int64_t count) {
    Reg r = {};
    for (int i = 0; i < kLanes; ++i)
      if (i < count) r[i] = p[i];
    return r;
  }
  static INGOT_INLINE void store_partial(float* p, Reg r, int64_t count) {
    for (int i = 0; i < kLanes; ++i)
      if (i < count) p[i] = r[i];
  }
  static INGOT_INLINE Reg fma(Reg a, Reg b, Reg c) { return a * b + c; }
  static INGOT_INLINE Reg add(Reg a, Reg b) { return a + b; }
  static INGOT_INLINE Reg sub(Reg a, Reg b) { return a - b; }
  static INGOT_INLINE Reg mul(Reg a, Reg b) { return a * b; }
  static INGOT_INLINE Reg div(Reg a, Reg b) { return a / b; }
  // The second operand when either is NaN.
  static INGOT_INLINE Reg min(Reg a, Reg b) { return a < b ? a : b; }
  static INGOT_INLINE Reg max(Reg a, Reg b) { return a > b ? a : b; }
  static INGOT_INLINE Reg abs(Reg a) { return (Reg)((Int)a & 0x7fffffff); }
  // a where x has its sign bit set, else b.
  static INGOT_INLINE Reg if_negative(Reg x, Reg a, Reg b) { return (Int)x < 0 ? a : b; }
  static INGOT_INLINE float sum(Reg a) { return (a[0] + a[2]) + (a[1] + a[3]); }
  // x rounded to an integer |n| < 2^22, and 2^n for -127 < n < 128.
  static INGOT_INLINE Reg round(Reg x) {
    Reg magic = set(12582912.0f);
    return (x + magic) - magic;
  }
  static INGOT_INLINE Reg pow2(Reg n) { return (Reg)((__builtin_convertvector(n, Int) + 127) << 23); }

  static INGOT_INLINE void split_bf16(const uint16_t* p, Reg& even, Reg& odd) { split(load_bits(p), even, odd); }
  static INGOT_INLINE void split(Reg pairs, Reg& even, Reg& odd) {
    even = (Reg)((Int)pairs << 16);
    odd = (Reg)((Int)pairs & static_cast<int32_t>(0xffff0000));
  }
  static INGOT_INLINE Reg load_bits(const void* p) {
    Reg r;
    __builtin_memcpy(&r, p, sizeof r);
    return r;
  }
  static INGOT_INLINE Reg load_bf16(const uint16_t* p) {
    Int r = {p[0], p[1], p[2], p[3]};
    return (Reg)(r << 16);
  }
  static INGOT_INLINE Reg load_f16(const uint16_t* p) {
    Int bits = {p[0], p[1], p[2], p[3]};
    Int sign = (bits & 0x8000) << 16, magnitude = (bits & 0x7fff) << 13;
    Int scaled = (Int)((Reg)magnitude * set(0x1p112f));
    Int special = magnitude >= (0x7c00 << 13);  // infinity and NaN
    return (Reg)(sign | (special ? (magnitude | 0x7f800000) : scaled));
  }
  static INGOT_INLINE void transpose(Reg (&r)[4]) {
    Reg out[4];
    for (int i = 0; i < 4; ++i) out[i] = Reg{r[0][i], r[1][i], r[2][i], r[3][i]};
    for (int i = 0; i < 4; ++i) r[i] = out[i];
  }
};
