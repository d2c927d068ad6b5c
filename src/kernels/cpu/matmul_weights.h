// How weights become registers of floats. Included into the namespace of one instruction set, after V.

using Reg = V::Reg;
constexpr int kLanes = V::kLanes;
constexpr int kStripRegs = static_cast<int>(kStripColumns) / kLanes;

// A step is the smallest unit of a strip: one k of its 16 features for f32 and f16, two for bf16, whose strips hold
// pairs along k so that a shift and a mask unpack them. `load_pairs` reads along k of a row-major weight, as much as
// one square transposition takes: kLanes groups of kStep.
struct F32Weights {
  using T = float;
  static constexpr int kStep = 1;
  static INGOT_INLINE void load_step(const T* p, Reg (&w)[1][kStripRegs]) {
    for (int i = 0; i < kStripRegs; ++i) w[0][i] = V::load(p + i * kLanes);
  }
  static INGOT_INLINE Reg load(const T* p) { return V::load(p); }
  static INGOT_INLINE Reg load_pairs(const T* p) { return V::load(p); }
  static INGOT_INLINE void split(Reg r, Reg (&w)[1]) { w[0] = r; }
};
struct F16Weights {
  using T = uint16_t;
  static constexpr int kStep = 1;
  static INGOT_INLINE void load_step(const T* p, Reg (&w)[1][kStripRegs]) {
    for (int i = 0; i < kStripRegs; ++i) w[0][i] = V::load_f16(p + i * kLanes);
  }
  static INGOT_INLINE Reg load(const T* p) { return V::load_f16(p); }
  static INGOT_INLINE Reg load_pairs(const T* p) { return V::load_f16(p); }
  static INGOT_INLINE void split(Reg r, Reg (&w)[1]) { w[0] = r; }
};
struct BF16Weights {
  using T = uint16_t;
  static constexpr int kStep = 2;
  static INGOT_INLINE void load_step(const T* p, Reg (&w)[2][kStripRegs]) {
    for (int i = 0; i < kStripRegs; ++i) V::split_bf16(p + 2 * i * kLanes, w[0][i], w[1][i]);
  }
  static INGOT_INLINE Reg load(const T* p) { return V::load_bf16(p); }
  static INGOT_INLINE Reg load_pairs(const T* p) { return V::load_bits(p); }
  static INGOT_INLINE void split(Reg r, Reg (&w)[2]) { V::split(r, w[0], w[1]); }
};

// The elements [0, count) of kLanes, the rest as zeros, without reading past them.
template <class W>
static INGOT_INLINE Reg load_some(const typename W::T* p, int64_t count) {
  if (count >= kLanes) return W::load(p);
  typename W::T copy[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) copy[i] = p[i];
  return W::load(copy);
}
template <class W>
static INGOT_INLINE Reg load_some_pairs(const typename W::T* p, int64_t count) {
  if (count >= kLanes * W::kStep) return W::load_pairs(p);
  typename W::T copy[kLanes * W::kStep] = {};
  for (int64_t i = 0; i < count; ++i) copy[i] = p[i];
  return W::load_pairs(copy);
}

static INGOT_INLINE Reg load_floats(const float* p, int64_t count) {
  return count >= kLanes ? V::load(p) : V::load_partial(p, count);
}
static INGOT_INLINE void store_floats(float* p, Reg r, int64_t count) {
  if (count >= kLanes) return V::store(p, r);
  V::store_partial(p, r, count);
}

// Where the strip of column `column` begins, and how far apart its steps are, in elements.
struct StripPlace {
  int64_t offset, step_stride;
};
template <class W>
static INGOT_INLINE StripPlace strip_place(const MatmulTask& task, int64_t column) {
  int64_t depth = (task.k + kPackedDepth - 1) / kPackedDepth * kPackedDepth;
  int64_t panel = column / task.panel_columns, within = column % task.panel_columns;
  return {panel * task.panel_columns * depth + within * W::kStep, task.panel_columns * W::kStep};
}

template <class F>
static INGOT_INLINE void with_weights(WeightFormat format, F&& f) {
  switch (format) {
    case WeightFormat::kF32:
      return f(F32Weights{});
    case WeightFormat::kF16:
      return f(F16Weights{});
    case WeightFormat::kBF16:
      return f(BF16Weights{});
  }
}
