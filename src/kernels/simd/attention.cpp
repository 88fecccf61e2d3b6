#include "kernels/simd/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/attention.cpp"
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
constexpr int64_t kVec = HWY_LANES(float);
constexpr int64_t kPanel = 16;

// Lanes [lane, lane + kVec) of the tile.
HWY_INLINE void SoftmaxLanes(const SoftmaxTile& t, int64_t lane) {
  const D d;
  const V none = hn::Set(d, -__builtin_inff());
  const V old_max = hn::LoadU(d, t.max + lane);
  V max = old_max;
  // Keys that all lanes see, then those that some do.
  const int64_t clear = t.visible + lane < t.keys ? (t.visible + lane > 0 ? t.visible + lane : 0) : t.keys;
  const V first = hn::Iota(d, static_cast<float>(lane));
  float* s = t.scores + lane;
  for (int64_t j = 0; j < clear; ++j) max = hn::Max(max, hn::LoadU(d, s + j * t.lds));
  for (int64_t j = clear; j < t.keys; ++j) {
    // Key j is hidden from lanes q <= j - visible.
    const V v =
        hn::IfThenElse(hn::Gt(first, hn::Set(d, static_cast<float>(j - t.visible))), hn::LoadU(d, s + j * t.lds), none);
    hn::StoreU(v, d, s + j * t.lds);
    max = hn::Max(max, v);
  }
  const V base = hn::IfThenElse(hn::Eq(max, none), hn::Zero(d), max);
  const V alpha = Exp(d, hn::Sub(old_max, base));
  V sum = hn::Mul(hn::LoadU(d, t.sum + lane), alpha);
  float* w = static_cast<float*>(t.weights) + lane / kPanel * t.ldw + lane % kPanel;
  for (int64_t j = 0; j < t.keys; ++j) {
    V p = Exp(d, hn::Sub(hn::LoadU(d, s + j * t.lds), base));
    sum = hn::Add(sum, p);
    if (t.round) p = RoundBf16(d, p);
    hn::StoreU(p, d, w + j * kPanel);
  }
  hn::StoreU(max, d, t.max + lane);
  hn::StoreU(sum, d, t.sum + lane);
  hn::StoreU(alpha, d, t.alpha + lane);
}

}  // namespace

void Softmax(const SoftmaxTile& tile) {
  for (int64_t lane = 0; lane < kPanel * tile.panels; lane += kVec) SoftmaxLanes(tile, lane);
}

void PackPanels(float* b, int64_t ldb, const float* w, int64_t ldw, int64_t k, int64_t n) {
  const D d;
  for (int64_t row = 0; row < k; ++row, w += ldw) {
    float* to = b + row * kPanel;
    for (int64_t c = 0; c < n; c += kPanel, to += ldb) {
      for (int64_t i = 0; i < kPanel; i += kVec) {
        const int64_t left = n - c - i;
        hn::StoreU(left >= kVec ? hn::LoadU(d, w + c + i) : LoadTail(d, w + c + i, left > 0 ? left : 0), d, to + i);
      }
    }
  }
}

void ScaleAdd(float* y, float a, const float* x, float b, int64_t n, bool fresh) {
  const D d;
  const V va = hn::Set(d, a), vb = hn::Set(d, b);
  for (int64_t i = 0; i < n; i += kVec) {
    const bool whole = i + kVec <= n;
    V v = hn::Mul(whole ? hn::LoadU(d, x + i) : LoadTail(d, x + i, n - i), vb);
    if (!fresh) v = hn::MulAdd(whole ? hn::LoadU(d, y + i) : LoadTail(d, y + i, n - i), va, v);
    if (whole) {
      hn::StoreU(v, d, y + i);
    } else {
      StoreTail(d, v, y + i, n - i);
    }
  }
}

}  // namespace fathom::kernels::FATHOM_SIMD_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FATHOM_SIMD_NAMESPACE
