// Vector helpers of the portable kernels, included once per instruction set: loads that widen, stores that round, exp.
// Also defines FATHOM_SIMD_NAMESPACE, the namespace of the set being compiled; without it the pass compiles nothing.
#if defined(FATHOM_KERNELS_SIMD_VEC_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FATHOM_KERNELS_SIMD_VEC_INL_H_
#undef FATHOM_KERNELS_SIMD_VEC_INL_H_
#else
#define FATHOM_KERNELS_SIMD_VEC_INL_H_
#endif

#include "core/dtype.h"
#include "hwy/highway.h"

#undef FATHOM_SIMD_NAMESPACE
#if HWY_TARGET == HWY_SSE4
#define FATHOM_SIMD_NAMESPACE sse4
#elif HWY_TARGET == HWY_AVX2
#define FATHOM_SIMD_NAMESPACE avx2
#elif HWY_TARGET == HWY_AVX3
#define FATHOM_SIMD_NAMESPACE avx512
#elif HWY_TARGET == HWY_NEON
#define FATHOM_SIMD_NAMESPACE neon
#endif

#ifdef FATHOM_SIMD_NAMESPACE
HWY_BEFORE_NAMESPACE();
namespace fathom::kernels::FATHOM_SIMD_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE hn::Vec<D> LoadF32(D d, const float* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE hn::Vec<D> LoadF32(D d, const bf16* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p)))));
}
template <class D>
HWY_INLINE hn::Vec<D> LoadF32(D d, const f16* p) {
  const hn::Rebind<hwy::float16_t, D> d16;
  return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
}

inline float ToF32(float x) { return x; }
inline float ToF32(bf16 x) { return Bf16ToF32(x.bits); }
inline float ToF32(f16 x) { return F16ToF32(x.bits); }

// The first n < Lanes(d) values at p, then zeros. Reads nothing beyond.
template <class D, class T>
HWY_INLINE hn::Vec<D> LoadTail(D d, const T* p, int64_t n) {
  HWY_ALIGN float lanes[HWY_MAX_BYTES / sizeof(float)] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = ToF32(p[i]);
  return hn::Load(d, lanes);
}
template <class D>
HWY_INLINE void StoreTail(D d, hn::Vec<D> v, float* p, int64_t n) {
  HWY_ALIGN float lanes[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(v, d, lanes);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

// f(load, store) over [0, n) in vectors of floats; the last, short one goes through masked copies. load(p) reads at
// p + i, store(v, p) writes there.
template <class F>
HWY_INLINE void ForVectors(int64_t n, const F& f) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    f([d, i](const auto* p) HWY_ATTR { return LoadF32(d, p + i); },
      [d, i](V v, float* p) HWY_ATTR { hn::StoreU(v, d, p + i); });
  }
  if (i < n) {
    f([d, i, n](const auto* p) HWY_ATTR { return LoadTail(d, p + i, n - i); },
      [d, i, n](V v, float* p) HWY_ATTR { StoreTail(d, v, p + i, n - i); });
  }
}

// Nearest even; NaN stays NaN. The result is in the upper half of each lane, the lower half zero: it is the value.
template <class D>
HWY_INLINE hn::Vec<D> RoundBf16(D d, hn::Vec<D> v) {
  const hn::RebindToUnsigned<D> du;
  const auto u = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(u), hn::Set(du, 1));
  const auto rounded = hn::Add(u, hn::Add(odd, hn::Set(du, 0x7fff)));
  const auto quiet = hn::Or(u, hn::Set(du, 0x400000));
  const auto all = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded);
  return hn::BitCast(d, hn::And(all, hn::Set(du, 0xffff0000u)));
}
// The same in 16 bits.
template <class D>
HWY_INLINE hn::Vec<hn::Rebind<uint16_t, D>> Bf16Bits(D d, hn::Vec<D> v) {
  const hn::RebindToSigned<D> di;
  const auto bits = hn::BitCast(di, hn::ShiftRight<16>(hn::BitCast(hn::RebindToUnsigned<D>(), RoundBf16(d, v))));
  return hn::DemoteTo(hn::Rebind<uint16_t, D>(), bits);
}
template <class D>
HWY_INLINE void StoreBf16(D d, hn::Vec<D> v, bf16* p) {
  hn::StoreU(Bf16Bits(d, v), hn::Rebind<uint16_t, D>(), reinterpret_cast<uint16_t*>(p));
}

// x held within [low, high]; NaN stays NaN. Of a number and NaN, x86 takes the second operand; Highway's Min and Max on
// Arm are minNum and maxNum, which take the number.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> Within(D d, T low, T high, hn::Vec<D> x) {
  const auto least = hn::Set(d, low), most = hn::Set(d, high);
#if HWY_TARGET == HWY_NEON
  x = hn::IfThenElse(hn::Lt(x, least), least, x);
  return hn::IfThenElse(hn::Gt(x, most), most, x);
#else
  return hn::Min(most, hn::Max(least, x));
#endif
}

// e^x, at most 2 ulp off where the result is normal; 0 below -104, infinity above 88.73, NaN for NaN.
// x = n ln 2 + r; e^r = 1 + r + r^2 p(r), p interpolates (e^r - 1 - r) / r^2 at the Chebyshev nodes of |r| <= ln(2) / 2
// (relative error below 2^-26); the scaling by 2^n is in two steps, so that subnormal results come out.
template <class D>
HWY_INLINE hn::Vec<D> Exp(D d, hn::Vec<D> x) {
  const hn::RebindToSigned<D> di;
  x = Within(d, -104.0f, 89.0f, x);
  const auto n = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504f)));
  auto r = hn::NegMulAdd(n, hn::Set(d, 0x1.63p-1f), x);  // 9 bits of ln 2: exact even without a fused product
  r = hn::NegMulAdd(n, hn::Set(d, -0x1.bd0106p-13f), r);
  auto p = hn::Set(d, 0x1.6d10fep-10f);
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.120b64p-7f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.55551ap-5f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.5554dep-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
  p = hn::Add(hn::MulAdd(hn::Mul(r, r), p, r), hn::Set(d, 1.0f));
  const auto ni = hn::ConvertTo(di, n);
  const auto half = hn::ShiftRight<1>(ni);
  const auto power = [&](auto k) HWY_ATTR { return hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(k, hn::Set(di, 127)))); };
  return hn::Mul(hn::Mul(p, power(half)), power(hn::Sub(ni, half)));
}

}  // namespace fathom::kernels::FATHOM_SIMD_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FATHOM_SIMD_NAMESPACE

#endif  // per-target include guard
