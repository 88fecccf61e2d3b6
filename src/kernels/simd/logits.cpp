#include "kernels/simd/logits.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/logits.cpp"
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/vec-inl.h"

#ifdef FATHOM_SIMD_NAMESPACE
HWY_BEFORE_NAMESPACE();
namespace fathom::kernels::FATHOM_SIMD_NAMESPACE {
namespace {

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
using D64 = hn::ScalableTag<double>;
using V64 = hn::Vec<D64>;

// Widens both halves of v and adds them.
HWY_INLINE V64 SumOfHalves(V v) {
  const D64 d64;
  const hn::Half<D> half;
  return hn::Add(hn::PromoteTo(d64, hn::LowerHalf(half, v)), hn::PromoteTo(d64, hn::UpperHalf(half, v)));
}

// w(i) for vectors and w(i, count) for the last, short one give values, which are stored at y, unless null, and summed.
template <class Whole, class Tail>
HWY_INLINE void BlockSums(float* y, double* sums, int64_t n, const Whole& whole, const Tail& tail) {
  const D d;
  const D64 d64;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t begin = 0; begin < n; begin += kExpSumOf) {
    const int64_t end = n - begin < kExpSumOf ? n : begin + kExpSumOf;
    V64 sum = hn::Zero(d64);
    int64_t i = begin;
    for (; i + 4 * lanes <= end; i += 4 * lanes) {
      const V w0 = whole(i), w1 = whole(i + lanes), w2 = whole(i + 2 * lanes), w3 = whole(i + 3 * lanes);
      if (y) {
        hn::StoreU(w0, d, y + i);
        hn::StoreU(w1, d, y + i + lanes);
        hn::StoreU(w2, d, y + i + 2 * lanes);
        hn::StoreU(w3, d, y + i + 3 * lanes);
      }
      sum = hn::Add(sum, SumOfHalves(hn::Add(hn::Add(w0, w1), hn::Add(w2, w3))));
    }
    double all = hn::GetLane(hn::SumOfLanes(d64, sum));
    for (; i < end; i += lanes) {
      const int64_t count = end - i < lanes ? end - i : lanes;
      HWY_ALIGN float w[HWY_MAX_BYTES / sizeof(float)];
      hn::Store(tail(i, count), d, w);
      for (int64_t k = 0; k < count; ++k) {
        if (y) y[i + k] = w[k];
        all += w[k];
      }
    }
    *sums++ = all;
  }
}

}  // namespace

void Maxima(float* maxima, const float* x, int64_t n) {
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  static_assert(kMaximaOf % (4 * HWY_MAX_BYTES / sizeof(float)) == 0);
  for (; n >= kMaximaOf; n -= kMaximaOf, x += kMaximaOf) {
    V m0 = hn::LoadU(d, x), m1 = hn::LoadU(d, x + lanes);
    V m2 = hn::LoadU(d, x + 2 * lanes), m3 = hn::LoadU(d, x + 3 * lanes);
    for (int64_t i = 4 * lanes; i < kMaximaOf; i += 4 * lanes) {
      m0 = hn::Max(m0, hn::LoadU(d, x + i));
      m1 = hn::Max(m1, hn::LoadU(d, x + i + lanes));
      m2 = hn::Max(m2, hn::LoadU(d, x + i + 2 * lanes));
      m3 = hn::Max(m3, hn::LoadU(d, x + i + 3 * lanes));
    }
    *maxima++ = hn::GetLane(hn::MaxOfLanes(d, hn::Max(hn::Max(m0, m1), hn::Max(m2, m3))));
  }
  if (n == 0) return;
  float m = x[0];
  for (int64_t i = 1; i < n; ++i) m = x[i] > m ? x[i] : m;
  *maxima = m;
}

void ExpSums(float* y, double* sums, const float* x, int64_t n, float top, float scale) {
  const D d;
  const V shift = hn::Set(d, top), factor = hn::Set(d, scale);
  const auto weight = [=](V v) HWY_ATTR { return Exp(d, hn::Mul(hn::Sub(v, shift), factor)); };
  BlockSums(
      y, sums, n, [=](int64_t i) HWY_ATTR { return weight(hn::LoadU(d, x + i)); },
      [=](int64_t i, int64_t count) HWY_ATTR { return weight(LoadTail(d, x + i, count)); });
}

void ExcessSums(float* y, double* sums, const float* x, int64_t n, float factor) {
  const D d;
  const V minus = hn::Set(d, -factor);
  const auto excess = [=](V a, V b) HWY_ATTR { return hn::Max(hn::Zero(d), hn::MulAdd(minus, b, a)); };
  BlockSums(
      y, sums, n, [=](int64_t i) HWY_ATTR { return excess(hn::LoadU(d, y + i), hn::LoadU(d, x + i)); },
      [=](int64_t i, int64_t count) HWY_ATTR { return excess(LoadTail(d, y + i, count), LoadTail(d, x + i, count)); });
}

int64_t AtLeast(int32_t* ids, const float* x, int64_t n, float floor) {
  const D d;
  const hn::RebindToSigned<D> di;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const V least = hn::Set(d, floor);
  int64_t found = 0, i = 0;
  // Whole vectors are stored: found <= i, so they end before ids + n.
  for (; i + lanes <= n; i += lanes) {
    const auto mask = hn::Ge(hn::LoadU(d, x + i), least);
    if (hn::AllFalse(d, mask)) continue;
    found += static_cast<int64_t>(
        hn::CompressStore(hn::Iota(di, static_cast<int32_t>(i)), hn::RebindMask(di, mask), di, ids + found));
  }
  for (; i < n; ++i) {
    if (x[i] >= floor) ids[found++] = static_cast<int32_t>(i);
  }
  return found;
}

}  // namespace fathom::kernels::FATHOM_SIMD_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FATHOM_SIMD_NAMESPACE
