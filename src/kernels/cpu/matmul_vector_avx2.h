// Eight floats.
struct V {
  using Reg = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kAccumulators = 12;  // of one register tile
  // Strips that the streaming form works on at once. Memory answers four streams faster than one.
  static constexpr int stream_strips(int rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }
  static constexpr int kGemmUnroll = 2;  // steps of k between prefetches
  static constexpr int kStreamRows = 5;
  static constexpr int kDotTileRows = 5;  // rows of x, and features for so many, of the row-major streaming form
  static constexpr int dot_columns(int rows) { return rows <= 2 ? 4 : 2; }

  static INGOT_INLINE Reg zero() { return _mm256_setzero_ps(); }
  static INGOT_INLINE Reg set(float a) { return _mm256_set1_ps(a); }
  static INGOT_INLINE Reg broadcast(const float* p) { return _mm256_broadcast_ss(p); }
  static INGOT_INLINE Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static INGOT_INLINE void store(float* p, Reg r) { _mm256_storeu_ps(p, r); }
  static INGOT_INLINE __m256i mask(int64_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static INGOT_INLINE Reg load_partial(const float* p, int64_t count) { return _mm256_maskload_ps(p, mask(count)); }
  static INGOT_INLINE void store_partial(float* p, Reg r, int64_t count) { _mm256_maskstore_ps(p, mask(count), r); }
  static INGOT_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static INGOT_INLINE Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  static INGOT_INLINE Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
  static INGOT_INLINE Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  static INGOT_INLINE Reg div(Reg a, Reg b) { return _mm256_div_ps(a, b); }
  // The second operand when either is NaN.
  static INGOT_INLINE Reg min(Reg a, Reg b) { return _mm256_min_ps(a, b); }
  static INGOT_INLINE Reg max(Reg a, Reg b) { return _mm256_max_ps(a, b); }
  static INGOT_INLINE Reg abs(Reg a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  // a where x has its sign bit set, else b.
  static INGOT_INLINE Reg if_negative(Reg x, Reg a, Reg b) { return _mm256_blendv_ps(b, a, x); }
  static INGOT_INLINE float sum(Reg a) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
  }
  static INGOT_INLINE Reg round(Reg x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // 2^n for -127 < n < 128.
  static INGOT_INLINE Reg pow2(Reg n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
  }

  static INGOT_INLINE void split_bf16(const uint16_t* p, Reg& even, Reg& odd) { split(load_bits(p), even, odd); }
  static INGOT_INLINE void split(Reg pairs, Reg& even, Reg& odd) {
    __m256i bits = _mm256_castps_si256(pairs);
    __asm__("" : "+x"(bits));  // or the compiler would load the memory twice, once for each half
    even = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
    odd = _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(static_cast<int>(0xffff0000))));
  }
  static INGOT_INLINE Reg load_bits(const void* p) {
    return _mm256_castsi256_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  static INGOT_INLINE Reg load_bf16(const uint16_t* p) {
    __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
  }
  static INGOT_INLINE Reg load_f16(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static INGOT_INLINE void transpose(Reg (&r)[8]) {
    Reg a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
      a[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
      a[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
      b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
      b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
      b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
      r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
      r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
  }
};
