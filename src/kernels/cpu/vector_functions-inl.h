// The loops of vector_functions.h. Included by one translation unit per instruction set.
#pragma once

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cmath>

#include "kernels/cpu/vector_functions.h"
#include "kernels/cpu/vector_math-inl.h"

namespace ingot {
namespace {

using Floats = hn::ScalableTag<float>;
using OneFloat = hn::CappedTag<float, 1>;

// f(tag, index) over [0, count): whole vectors, then single elements.
template <class F>
HWY_INLINE void for_each_vector(int64_t count, F f) {
  const Floats d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) f(d, i);
  for (; i < count; ++i) f(OneFloat(), i);
}

// y[i] = f(tag, x[i]).
template <class F>
HWY_INLINE void map(const float* x, float* y, int64_t count, F f) {
  for_each_vector(count, [&](auto d, int64_t i) { hn::StoreU(f(d, hn::LoadU(d, x + i)), d, y + i); });
}

void add(const float* a, const float* b, float* y, int64_t count) {
  for_each_vector(count,
                  [&](auto d, int64_t i) { hn::StoreU(hn::Add(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, y + i); });
}

void multiply(const float* a, const float* b, float* y, int64_t count) {
  for_each_vector(count,
                  [&](auto d, int64_t i) { hn::StoreU(hn::Mul(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, y + i); });
}

void scale(const float* x, float factor, float* y, int64_t count) {
  map(x, y, count, [=](auto d, auto v) { return hn::Mul(v, hn::Set(d, factor)); });
}

void soft_cap(const float* x, float cap, float* y, int64_t count) {
  map(x, y, count, [=](auto d, auto v) { return hn::Mul(tanh_of(d, hn::Div(v, hn::Set(d, cap))), hn::Set(d, cap)); });
}

void blend(const float* a, float a_factor, const float* b, float b_factor, float* y, int64_t count) {
  for_each_vector(count, [&](auto d, int64_t i) {
    auto scaled = hn::Mul(hn::LoadU(d, b + i), hn::Set(d, b_factor));
    hn::StoreU(hn::MulAdd(hn::LoadU(d, a + i), hn::Set(d, a_factor), scaled), d, y + i);
  });
}

// Calls `use` with the vector form of an activation function.
template <class F>
HWY_INLINE void with_function(ActivationFunction function, F use) {
  switch (function) {
    case ActivationFunction::kNone:
      return use([](auto, auto x) { return x; });
    case ActivationFunction::kSilu:
      return use([](auto d, auto x) { return hn::Mul(x, sigmoid_of(d, x)); });
    case ActivationFunction::kGelu:
      return use([](auto d, auto x) { return gelu_of(d, x); });
    case ActivationFunction::kGeluTanh:
      return use([](auto d, auto x) { return gelu_tanh_of(d, x); });
    case ActivationFunction::kQuickGelu:
      return use([](auto d, auto x) { return hn::Mul(x, sigmoid_of(d, hn::Mul(x, hn::Set(d, 1.702f)))); });
    case ActivationFunction::kRelu:
      return use([](auto d, auto x) { return hn::Max(x, hn::Zero(d)); });
    case ActivationFunction::kTanh:
      return use([](auto d, auto x) { return tanh_of(d, x); });
    case ActivationFunction::kSigmoid:
      return use([](auto d, auto x) { return sigmoid_of(d, x); });
  }
}

void activate(ActivationFunction function, const float* x, float* y, int64_t count) {
  with_function(function, [=](auto f) { map(x, y, count, f); });
}

void gate(ActivationFunction function, const float* gate, const float* up, float* y, int64_t count) {
  with_function(function, [=](auto f) {
    for_each_vector(count, [&](auto d, int64_t i) {
      hn::StoreU(hn::Mul(f(d, hn::LoadU(d, gate + i)), hn::LoadU(d, up + i)), d, y + i);
    });
  });
}

template <class D>
HWY_INLINE auto load_bf16(D d, const uint16_t* x) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, x))));
}

template <class D, class V>
HWY_INLINE void store_bf16(D, V x, uint16_t* y) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  const hn::RebindToSigned<D> di32;
  auto bits = hn::BitCast(d32, x), high = hn::ShiftRight<16>(bits);
  auto odd = hn::And(high, hn::Set(d32, 1u));
  auto nearest = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(d32, 0x7fffu)), odd));
  auto number = hn::RebindMask(d32, hn::Eq(x, x));
  auto result = hn::IfThenElse(number, nearest, hn::Or(high, hn::Set(d32, 0x40u)));
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di32, result)), d16, y);
}

#if HWY_TARGET == HWY_SCALAR
void widen_f16(const uint16_t* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = f16_to_float(x[i]);
}
void narrow_f16(const float* x, uint16_t* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = float_to_f16(x[i]);
}
#else
void widen_f16(const uint16_t* x, float* y, int64_t count) {
  for_each_vector(count, [=](auto d, int64_t i) {
    const hn::Rebind<hwy::float16_t, decltype(d)> d16;
    hn::StoreU(hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(x + i))), d, y + i);
  });
}
void narrow_f16(const float* x, uint16_t* y, int64_t count) {
  for_each_vector(count, [=](auto d, int64_t i) {
    const hn::Rebind<hwy::float16_t, decltype(d)> d16;
    hn::StoreU(hn::DemoteTo(d16, hn::LoadU(d, x + i)), d16, reinterpret_cast<hwy::float16_t*>(y + i));
  });
}
#endif

void widen(DType from, const void* x, float* y, int64_t count) {
  if (from == DType::kF16) return widen_f16(static_cast<const uint16_t*>(x), y, count);
  if (from == DType::kBF16) {
    auto* bf16 = static_cast<const uint16_t*>(x);
    return for_each_vector(count, [=](auto d, int64_t i) { hn::StoreU(load_bf16(d, bf16 + i), d, y + i); });
  }
  map(static_cast<const float*>(x), y, count, [](auto, auto v) { return v; });
}

void narrow(DType to, const float* x, void* y, int64_t count) {
  if (to == DType::kF16) return narrow_f16(x, static_cast<uint16_t*>(y), count);
  if (to == DType::kBF16) {
    auto* bf16 = static_cast<uint16_t*>(y);
    return for_each_vector(count, [=](auto d, int64_t i) { store_bf16(d, hn::LoadU(d, x + i), bf16 + i); });
  }
  map(x, static_cast<float*>(y), count, [](auto, auto v) { return v; });
}

void stream(const float* x, float* y, int64_t count) {
  const Floats d;
  for (int64_t i = 0; i < count; i += static_cast<int64_t>(hn::Lanes(d))) hn::Stream(hn::LoadU(d, x + i), d, y + i);
}

void end_stream() { hwy::FlushStream(); }

// The sum of term(tag, i): blocks in f32, their sums in f64, so that long rows lose nothing.
template <class F>
HWY_INLINE double sum(int64_t count, F term) {
  constexpr int64_t kBlock = 512;
  const Floats d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    int64_t end = begin + kBlock < count ? begin + kBlock : count, i = begin;
    auto even = hn::Zero(d), odd = hn::Zero(d);
    for (; i + 2 * lanes <= end; i += 2 * lanes) {
      even = hn::Add(even, term(d, i));
      odd = hn::Add(odd, term(d, i + lanes));
    }
    float block = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
    for (; i < end; ++i) block += hn::GetLane(term(OneFloat(), i));
    total += block;
  }
  return total;
}

// y = x * gamma / sqrt(squares / count + epsilon)
HWY_INLINE void scale_by_rms(const float* x, double squares, const float* gamma, float epsilon, float* y,
                             int64_t count) {
  const float factor = static_cast<float>(1 / std::sqrt(squares / static_cast<double>(count) + epsilon));
  for_each_vector(count, [=](auto d, int64_t i) {
    hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, factor)), hn::LoadU(d, gamma + i)), d, y + i);
  });
}

void rms_norm(const float* x, const float* gamma, float epsilon, float* y, int64_t count) {
  double squares = sum(count, [=](auto d, int64_t i) {
    auto v = hn::LoadU(d, x + i);
    return hn::Mul(v, v);
  });
  scale_by_rms(x, squares, gamma, epsilon, y, count);
}

void add_rms_norm(const float* a, const float* b, const float* gamma, float epsilon, float* s, float* y,
                  int64_t count) {
  double squares = sum(count, [=](auto d, int64_t i) {
    // Four streams of short rows are too many for the hardware to foresee.
    __builtin_prefetch(a + count + i);
    __builtin_prefetch(b + count + i);
    auto v = hn::Add(hn::LoadU(d, a + i), hn::LoadU(d, b + i));
    hn::StoreU(v, d, s + i);
    return hn::Mul(v, v);
  });
  scale_by_rms(s, squares, gamma, epsilon, y, count);
}

// The mean is found in two steps: the second removes what rounding left of a mean far from zero.
void layer_norm(const float* x, const float* gamma, const float* beta, float epsilon, float* y, int64_t count) {
  const double size = static_cast<double>(count);
  const float mean = static_cast<float>(sum(count, [=](auto d, int64_t i) { return hn::LoadU(d, x + i); }) / size);
  auto near = [=](auto d, int64_t i) { return hn::Sub(hn::LoadU(d, x + i), hn::Set(d, mean)); };
  const float rest = static_cast<float>(sum(count, near) / size);
  auto centered = [=](auto d, int64_t i) { return hn::Sub(near(d, i), hn::Set(d, rest)); };
  double squares = sum(count, [=](auto d, int64_t i) { return hn::Mul(centered(d, i), centered(d, i)); });
  const float factor = static_cast<float>(1 / std::sqrt(squares / size + epsilon));
  for_each_vector(count, [=](auto d, int64_t i) {
    auto v = hn::Mul(centered(d, i), hn::Set(d, factor));
    hn::StoreU(hn::MulAdd(v, hn::LoadU(d, gamma + i), hn::LoadU(d, beta + i)), d, y + i);
  });
}

void rotate(const float* x, const float* angles, int64_t half, bool interleaved, float* y) {
  const float *cosines = angles, *sines = angles + half;
  if (interleaved) {
    for (int64_t i = 0; i < half; ++i) {
      float a = x[2 * i], b = x[2 * i + 1];
      y[2 * i] = a * cosines[i] - b * sines[i];
      y[2 * i + 1] = b * cosines[i] + a * sines[i];
    }
    return;
  }
  for_each_vector(half, [=](auto d, int64_t i) {
    auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + half + i);
    auto c = hn::LoadU(d, cosines + i), s = hn::LoadU(d, sines + i);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, y + i);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), d, y + half + i);
  });
}

constexpr VectorFunctions kFunctions = {
    .add = add,
    .multiply = multiply,
    .scale = scale,
    .soft_cap = soft_cap,
    .activate = activate,
    .gate = gate,
    .blend = blend,
    .widen = widen,
    .narrow = narrow,
    .stream = stream,
    .end_stream = end_stream,
    .rms_norm = rms_norm,
    .add_rms_norm = add_rms_norm,
    .layer_norm = layer_norm,
    .rotate = rotate,
};

}  // namespace
}  // namespace ingot
