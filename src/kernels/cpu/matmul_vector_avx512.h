// Sixteen floats.
struct V {
  using Reg = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kAccumulators = 28;  // of one register tile
  // Strips that the streaming form works on at once. Memory answers four streams faster than one.
  static constexpr int stream_strips(int rows) { return rows <= 4 ? 4 : 2; }
  static constexpr int kGemmUnroll = 1;  // steps of k between prefetches
  static constexpr int kStreamRows = 8;
  static constexpr int kDotTileRows = 6;  // rows of x, and features for so many, of the row-major streaming form
  static constexpr int dot_columns(int rows) { return rows == 1 ? 8 : 4; }

  static INGOT_INLINE Reg zero() { return _mm512_setzero_ps(); }
  static INGOT_INLINE Reg set(float a) { return _mm512_set1_ps(a); }
  static INGOT_INLINE Reg broadcast(const float* p) { return _mm512_set1_ps(*p); }
  static INGOT_INLINE Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static INGOT_INLINE void store(float* p, Reg r) { _mm512_storeu_ps(p, r); }
  static INGOT_INLINE __mmask16 mask(int64_t count) {
    return count >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << count) - 1);
  }
  static INGOT_INLINE Reg load_partial(const float* p, int64_t count) { return _mm512_maskz_loadu_ps(mask(count), p); }
  static INGOT_INLINE void store_partial(float* p, Reg r, int64_t count) { _mm512_mask_storeu_ps(p, mask(count), r); }
  static INGOT_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static INGOT_INLINE Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  static INGOT_INLINE Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
  static INGOT_INLINE Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  static INGOT_INLINE Reg div(Reg a, Reg b) { return _mm512_div_ps(a, b); }
  // The second operand when either is NaN.
  static INGOT_INLINE Reg min(Reg a, Reg b) { return _mm512_min_ps(a, b); }
  static INGOT_INLINE Reg max(Reg a, Reg b) { return _mm512_max_ps(a, b); }
  static INGOT_INLINE Reg abs(Reg a) { return _mm512_abs_ps(a); }
  // a where x has its sign bit set, else b.
  static INGOT_INLINE Reg if_negative(Reg x, Reg a, Reg b) {
    return _mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(x)), b, a);
  }
  static INGOT_INLINE float sum(Reg a) { return _mm512_reduce_add_ps(a); }
  static INGOT_INLINE Reg round(Reg x) { return _mm512_roundscale_ps(x, 8); }
  // 2^n for -127 < n < 128.
  static INGOT_INLINE Reg pow2(Reg n) { return _mm512_scalef_ps(_mm512_set1_ps(1), n); }

  static INGOT_INLINE void split_bf16(const uint16_t* p, Reg& even, Reg& odd) { split(load_bits(p), even, odd); }
  static INGOT_INLINE void split(Reg pairs, Reg& even, Reg& odd) {
    __m512i bits = _mm512_castps_si512(pairs);
    __asm__("" : "+v"(bits));  // or the compiler would load the memory twice, once for each half
    even = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
    odd = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
  }
  static INGOT_INLINE Reg load_bits(const void* p) { return _mm512_castsi512_ps(_mm512_loadu_si512(p)); }
  static INGOT_INLINE Reg load_bf16(const uint16_t* p) {
    __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
  }
  static INGOT_INLINE Reg load_f16(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static INGOT_INLINE void transpose(Reg (&r)[16]) {
    Reg a[16];
    for (int i = 0; i < 16; i += 2) {
      a[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
      a[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
      r[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
      r[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
      r[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
      r[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {  // r[4q + i] holds columns i, 4 + i, 8 + i, 12 + i of rows 4q … 4q + 3
      Reg low01 = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x44), high01 = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xee);
      Reg low23 = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x44),
          high23 = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xee);
      a[i] = _mm512_shuffle_f32x4(low01, low23, 0x88);
      a[4 + i] = _mm512_shuffle_f32x4(low01, low23, 0xdd);
      a[8 + i] = _mm512_shuffle_f32x4(high01, high23, 0x88);
      a[12 + i] = _mm512_shuffle_f32x4(high01, high23, 0xdd);
    }
    for (int i = 0; i < 16; ++i) r[i] = a[i];
  }
};
