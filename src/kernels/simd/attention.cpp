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

// ---- Latent cache ----

// Registers: heads side by side.
constexpr int kHeadsAtOnce = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON ? 8 : 4;

// Scores of rows j and k for the heads from h on: [row][8].
template <class T>
HWY_INLINE void TwoScores(const LatentTile& t, int64_t j, int64_t k, int64_t h, float* scores) {
  const D d;
  const T* a = static_cast<const T*>(t.rows[j]);
  const T* b = static_cast<const T*>(t.rows[k]);
  const float* q = static_cast<const float*>(t.q) + h * t.ldq;
  V acc[2][kHeadsAtOnce];
  HWY_UNROLL(8)
  for (int i = 0; i < kHeadsAtOnce; ++i) acc[0][i] = acc[1][i] = hn::Zero(d);
  int64_t c = 0;
  const auto add = [&](V av, V bv) HWY_ATTR {
    HWY_UNROLL(8)
    for (int i = 0; i < kHeadsAtOnce; ++i) {
      const V qv = hn::LoadU(d, q + i * t.ldq + c);
      acc[0][i] = hn::MulAdd(av, qv, acc[0][i]);
      acc[1][i] = hn::MulAdd(bv, qv, acc[1][i]);
    }
  };
  for (; c + kVec <= t.width; c += kVec) add(LoadF32(d, a + c), LoadF32(d, b + c));
  if (c < t.width) add(LoadTail(d, a + c, t.width - c), LoadTail(d, b + c, t.width - c));
  for (int i = 0; i < kHeadsAtOnce; ++i) {
    scores[j * kLatentHeads + h + i] = hn::GetLane(hn::SumOfLanes(d, acc[0][i])) * t.scale;
    scores[k * kLatentHeads + h + i] = hn::GetLane(hn::SumOfLanes(d, acc[1][i])) * t.scale;
  }
}

// Columns [col, col + 2 * kVec) of the heads from h on; those from r on are not there.
template <bool kWhole, class T>
HWY_INLINE void SumColumns(const LatentTile& t, const float* weights, const float* alpha, int64_t h, int64_t col) {
  const D d;
  V acc[2][kHeadsAtOnce];
  HWY_UNROLL(8)
  for (int i = 0; i < kHeadsAtOnce; ++i) acc[0][i] = acc[1][i] = hn::Zero(d);
  const auto load = [&](const T* p, int64_t at) HWY_ATTR {
    if constexpr (kWhole) return LoadF32(d, p + at);
    const int64_t left = t.r - at;
    return left >= kVec ? LoadF32(d, p + at) : LoadTail(d, p + at, left > 0 ? left : 0);
  };
  for (int64_t j = 0; j < t.count; ++j) {
    const T* row = static_cast<const T*>(t.rows[j]);
    const V c0 = load(row, col), c1 = load(row, col + kVec);
    HWY_UNROLL(8)
    for (int i = 0; i < kHeadsAtOnce; ++i) {
      const V w = hn::Set(d, weights[j * kLatentHeads + h + i]);
      acc[0][i] = hn::MulAdd(c0, w, acc[0][i]);
      acc[1][i] = hn::MulAdd(c1, w, acc[1][i]);
    }
  }
  HWY_UNROLL(8)
  for (int i = 0; i < kHeadsAtOnce; ++i) {
    float* out = t.out + (h + i) * t.ldo + col;
    const V scale = hn::Set(d, alpha[h + i]);
    hn::StoreU(hn::MulAdd(hn::LoadU(d, out), scale, acc[0][i]), d, out);
    hn::StoreU(hn::MulAdd(hn::LoadU(d, out + kVec), scale, acc[1][i]), d, out + kVec);
  }
}

template <class T>
HWY_INLINE void LatentStep(const LatentTile& t) {
  HWY_ALIGN float scores[kLatentRows * kLatentHeads];
  HWY_ALIGN float alphas[kLatentHeads];
  for (int64_t h = 0; h < kLatentHeads; h += kHeadsAtOnce) {
    for (int64_t j = 0; j < t.count; j += 2) TwoScores<T>(t, j, j + 1 < t.count ? j + 1 : j, h, scores);
  }
  const hn::CappedTag<float, kLatentHeads> d;  // heads in lanes
  const auto none = hn::Set(d, -__builtin_inff());
  for (int64_t h = 0; h < kLatentHeads; h += static_cast<int64_t>(hn::Lanes(d))) {
    const auto old_max = hn::LoadU(d, t.max + h);
    auto max = old_max;
    for (int64_t j = 0; j < t.count; ++j) max = hn::Max(max, hn::LoadU(d, scores + j * kLatentHeads + h));
    const auto base = hn::IfThenElse(hn::Eq(max, none), hn::Zero(d), max);
    const auto alpha = Exp(d, hn::Sub(old_max, base));
    auto sum = hn::Mul(hn::LoadU(d, t.sum + h), alpha);
    for (int64_t j = 0; j < t.count; ++j) {
      float* s = scores + j * kLatentHeads + h;
      auto p = Exp(d, hn::Sub(hn::LoadU(d, s), base));
      sum = hn::Add(sum, p);
      if (t.round) p = RoundBf16(d, p);
      hn::StoreU(p, d, s);
    }
    hn::StoreU(max, d, t.max + h);
    hn::StoreU(sum, d, t.sum + h);
    hn::StoreU(alpha, d, alphas + h);
  }
  for (int64_t h = 0; h < kLatentHeads; h += kHeadsAtOnce) {
    int64_t col = 0;
    for (; col + 2 * kVec <= t.r; col += 2 * kVec) SumColumns<true, T>(t, scores, alphas, h, col);
    if (col < t.r) SumColumns<false, T>(t, scores, alphas, h, col);
  }
}

}  // namespace

void LatentStepBf16Rows(const LatentTile& tile) { LatentStep<bf16>(tile); }
void LatentStepF32Rows(const LatentTile& tile) { LatentStep<float>(tile); }

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
