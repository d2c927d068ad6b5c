// gate * sigmoid(u(gate)) * up of 16 columns, for silu and the gelus of that form, to a relative error of 2^-14: beside
// gates that were summed of factors rounded to bf16 that is nothing. Included into the namespace of one instruction
// set.

// 2^f for 0 <= f < 1, to 3e-6 (Remez exchange on the relative error).
constexpr float kExp2OfFraction[] = {1.00000259f, 0.693003834f, 0.241442757f, 0.0520114606f, 0.0135341679f};

static bool has_sigmoid_gate(ActivationFunction function) {
  return function == ActivationFunction::kSilu || function == ActivationFunction::kQuickGelu ||
         function == ActivationFunction::kGeluTanh;
}

class SigmoidGate {
 public:
  SigmoidGate() = default;
  explicit SigmoidGate(ActivationFunction function) {
    const float log2_e = 1.44269504f;
    slope_ = -log2_e;
    if (function == ActivationFunction::kQuickGelu) slope_ = -1.702f * log2_e;
    if (function == ActivationFunction::kGeluTanh) slope_ = -1.59576912f * log2_e;
    cubic_ = function == ActivationFunction::kGeluTanh ? slope_ * 0.044715f : 0.0f;
  }

  // An infinite gate gives what the function's meaning gives, infinity or NaN.
  INGOT_INLINE __m512 apply(__m512 gate, __m512 up) const {
    __m512 slope = _mm512_set1_ps(slope_);
    if (cubic_ != 0) slope = _mm512_fmadd_ps(_mm512_mul_ps(gate, gate), _mm512_set1_ps(cubic_), slope);
    // exp(-u) as a power of two, never below the normal numbers: gates whose powers are took a tenth of the whole
    // product's time. The second operand when either is NaN.
    __m512 power = _mm512_max_ps(_mm512_set1_ps(-126.0f), _mm512_mul_ps(gate, slope));
    constexpr int kBelow = 9;  // what is left above the integer below, without exceptions
    __m512 fraction = _mm512_reduce_ps(power, kBelow), p = _mm512_set1_ps(kExp2OfFraction[4]);
#pragma GCC unroll 4
    for (int i = 3; i >= 0; --i) p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(kExp2OfFraction[i]));
    __m512 sum = _mm512_add_ps(_mm512_scalef_ps(p, power), _mm512_set1_ps(1.0f));
    return _mm512_mul_ps(_mm512_mul_ps(gate, _mm512_rcp14_ps(sum)), up);
  }

 private:
  float slope_ = 0, cubic_ = 0;  // -u / gate in powers of two, as slope_ + cubic_ gate²
};
