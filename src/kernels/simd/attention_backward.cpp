#include "kernels/simd/attention_backward.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/attention_backward.cpp"
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
HWY_INLINE void BackwardLanes(const BackwardTile& t, int64_t lane) {
  const D d;
  const V lse = hn::LoadU(d, t.lse + lane), delta = hn::LoadU(d, t.delta + lane);
  const V first = hn::Iota(d, static_cast<float>(lane));
  float* weights = static_cast<float*>(t.weights) + lane;
  float* dscores = static_cast<float*>(t.dscores) + lane;
  float* panel = static_cast<float*>(t.dscore_panels) + lane / kPanel * t.ldp + lane % kPanel;
  for (int64_t j = 0; j < t.keys; ++j) {
    V p = Exp(d, hn::Sub(hn::LoadU(d, t.scores + j * t.lds + lane), lse));
    V ds = hn::Mul(p, hn::Sub(hn::LoadU(d, t.dweights + j * t.lds + lane), delta));
    if (j >= t.visible + lane) {  // hidden from lanes q <= j - visible
      const auto seen = hn::Gt(first, hn::Set(d, static_cast<float>(j - t.visible)));
      p = hn::IfThenElseZero(seen, p);
      ds = hn::IfThenElseZero(seen, ds);
    }
    if (t.round) {
      p = RoundBf16(d, p);
      ds = RoundBf16(d, ds);
    }
    hn::StoreU(p, d, weights + j * t.ldr);
    hn::StoreU(ds, d, dscores + j * t.ldr);
    hn::StoreU(ds, d, panel + j * kPanel);
  }
}

}  // namespace

void BackwardStep(const BackwardTile& tile) {
  for (int64_t lane = 0; lane < kPanel * tile.panels; lane += kVec) BackwardLanes(tile, lane);
}

void RowDots(float* to, const float* a, const float* b, int64_t ld, int64_t rows, int64_t n) {
  for (int64_t i = 0; i < rows; ++i, a += ld, b += ld) {
    V sum = hn::Zero(D());
    ForVectors(n, [&](const auto& load, const auto&) HWY_ATTR { sum = hn::MulAdd(load(a), load(b), sum); });
    to[i] = hn::GetLane(hn::SumOfLanes(D(), sum));
  }
}

}  // namespace fathom::kernels::FATHOM_SIMD_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FATHOM_SIMD_NAMESPACE
