// Vectorized exp, tanh, sigmoid and the gelus, to about two units in the last place. Included by one translation unit
// per instruction set. The polynomials are minimax fits of their own (Remez exchange on the relative error).
#pragma once

#include <hwy/highway.h>

namespace ingot {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// c[0] + c[1] x + …
template <class D, class V, int kCount>
HWY_INLINE V polynomial(D d, V x, const float (&c)[kCount]) {
  V y = hn::Set(d, c[kCount - 1]);
#pragma GCC unroll 16
  for (int i = kCount - 2; i >= 0; --i) y = hn::MulAdd(y, x, hn::Set(d, c[i]));
  return y;
}

// 2^f for |f| <= 1/2, to 2e-9.
constexpr float kExp2[] = {
    1.0f, 0.6931472057f, 0.2402264689f, 0.05550328777f, 0.009618488938f, 0.001339993116f, 0.0001534581723f};

// Adding this to |x| < 2^22 leaves the nearest integer in the low bits of the sum, two's complement.
constexpr float kRoundingShift = 12582912.0f;  // 1.5 * 2^23

// p * 2^n, n in the low bits of `shifted`. The result must be a normal number.
template <class D, class V>
HWY_INLINE V times_power_of_two(D d, V p, V shifted) {
  const hn::RebindToSigned<D> di;
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
}

// x within [least, most]; a NaN stays one (x86 returns the second operand, single elements ask for comparisons).
template <class D, class V>
HWY_INLINE V clamp(D d, V x, float least, float most) {
#if HWY_TARGET == HWY_SCALAR
  x = hn::IfThenElse(hn::Lt(x, hn::Set(d, least)), hn::Set(d, least), x);
  return hn::IfThenElse(hn::Gt(x, hn::Set(d, most)), hn::Set(d, most), x);
#else
  return hn::Min(hn::Set(d, most), hn::Max(hn::Set(d, least), x));
#endif
}

// 2^x for x <= 0; exactly 0 below -125.
template <class D, class V>
HWY_INLINE V exp2_of_negative(D d, V x) {
  V shifted = hn::Add(x, hn::Set(d, kRoundingShift));
  V fraction = hn::Sub(x, hn::Sub(shifted, hn::Set(d, kRoundingShift)));
  V y = times_power_of_two(d, polynomial(d, fraction, kExp2), shifted);
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -125.0f)), y);
}

// From exp(-87), the smallest normal number, to exp(88).
template <class D, class V>
HWY_INLINE V exp_of(D d, V x) {
  x = clamp(d, x, -87.0f, 88.0f);
  V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504f), hn::Set(d, kRoundingShift));
  V n = hn::Sub(shifted, hn::Set(d, kRoundingShift));
  // ln 2 in two parts: n times the first is exact.
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  return times_power_of_two(d, polynomial(d, hn::Mul(r, hn::Set(d, 1.44269504f)), kExp2), shifted);
}

template <class D, class V>
HWY_INLINE V sigmoid_of(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, exp_of(d, hn::Neg(x))));
}

template <class D, class V>
HWY_INLINE V tanh_of(D d, V x) {
  constexpr float kSmall[] = {-0.3333328194f, 0.133314422f, -0.05373971531f, 0.02063908798f, -0.005704987805f};
  V magnitude = hn::Abs(x), square = hn::Mul(x, x);
  V small = hn::MulAdd(hn::Mul(x, square), polynomial(d, square, kSmall), x);
  V e = exp_of(d, hn::Add(magnitude, magnitude));
  V large = hn::Sub(hn::Set(d, 1.0f), hn::Div(hn::Set(d, 2.0f), hn::Add(e, hn::Set(d, 1.0f))));
  return hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, 0.625f)), small, hn::CopySign(large, x));
}

// x Φ(x) with Φ from erfc(z) = exp(-z²) t P(t), t = 1 / (1 + 0.4 z), z = |x| / √2: accurate in the negative tail too.
template <class D, class V>
HWY_INLINE V gelu_of(D d, V x) {
  constexpr float kErfc[] = {0.2257008764f,  0.2250709659f, 0.2139184097f,  0.1344002835f, 0.2582816857f,
                             -0.2584757642f, 0.5160851836f, -0.4751590106f, 0.1879011385f, -0.02772375809f};
  const V one = hn::Set(d, 1.0f);
  V t = hn::Div(one, hn::MulAdd(hn::Abs(x), hn::Set(d, 0.4f * 0.707106781f), one));
  V tail = hn::Mul(hn::Mul(t, polynomial(d, t, kErfc)), exp_of(d, hn::Mul(hn::Mul(x, x), hn::Set(d, -0.5f))));
  tail = hn::Mul(tail, hn::Set(d, 0.5f));
  return hn::Mul(x, hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(one, tail)));
}

// (1 + tanh(u)) / 2 is sigmoid(2u), without the cancellation.
template <class D, class V>
HWY_INLINE V gelu_tanh_of(D d, V x) {
  V u = hn::MulAdd(hn::Mul(hn::Mul(x, x), x), hn::Set(d, 0.044715f), x);
  return hn::Mul(x, sigmoid_of(d, hn::Mul(u, hn::Set(d, 1.59576912f))));
}

}  // namespace
}  // namespace ingot
