// Body of simd/tiles.cpp: included once per instruction set, so without an include guard.
// All of it is single-thread code over the element ranges that its arguments name; the ends of rows are copied into
// small zeroed buffers, never over-read.
#include <hwy/cache_control.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace fathom::kernels::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DU = hn::RebindToUnsigned<DF>;
using DI = hn::RebindToSigned<DF>;
using VF = hn::Vec<DF>;
using VU = hn::Vec<DU>;
constexpr int kN = HWY_LANES(float);
constexpr int kVectors = static_cast<int>(kLanes) / kN;  // of a panel's row
constexpr int64_t kScaleBlock = 128;                     // kFp8Block of core/dtype.h

// ---- Widening, a vector at a time ----

// Codes of a small float in 32-bit lanes, exactly: normal values by moving the bits, subnormal ones by an integer
// conversion, so that no float32 denormal is ever an operand.
template <int kMantissa, int kBias, bool kHasInfinity>
HWY_INLINE VF DecodeSmall(VU code, uint32_t top, uint32_t sign_bit) {
  const DF df;
  const DU du;
  const DI di;
  const auto sign = hn::And(code, hn::Set(du, sign_bit));
  const auto magnitude = hn::Xor(code, sign);
  const auto moved = hn::ShiftLeft<23 - kMantissa>(magnitude);
  const auto normal = hn::Add(moved, hn::Set(du, uint32_t{127 - kBias} << 23));
  const auto units = hn::ConvertTo(df, hn::BitCast(di, magnitude));
  const float spacing = 1.0f / static_cast<float>(int64_t{1} << (kBias + kMantissa - 1));
  const auto subnormal = hn::BitCast(du, hn::Mul(units, hn::Set(df, spacing)));
  auto bits = hn::IfThenElse(hn::Lt(magnitude, hn::Set(du, 1u << kMantissa)), subnormal, normal);
  const auto beyond = kHasInfinity ? hn::Or(moved, hn::Set(du, 0x7f800000u)) : hn::Set(du, 0x7fc00000u);
  bits = hn::IfThenElse(hn::Lt(magnitude, hn::Set(du, top)), bits, beyond);
  const int shift = sign_bit == 0x80u ? 24 : 16;
  const auto moved_sign = shift == 24 ? hn::ShiftLeft<24>(sign) : hn::ShiftLeft<16>(sign);
  return hn::BitCast(df, hn::Or(bits, moved_sign));
}

struct F32Source {
  using T = float;
  static HWY_INLINE VF Load(const T* p) { return hn::LoadU(DF(), p); }
};
struct Bf16Source {
  using T = uint16_t;
  static HWY_INLINE VF Load(const T* p) {
    const DU du;
    const hn::Rebind<uint16_t, DU> d16;
    return hn::BitCast(DF(), hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, p))));
  }
};
struct F16Source {
  using T = uint16_t;
  static HWY_INLINE VF Load(const T* p) {
    const hn::Rebind<uint16_t, DU> d16;
    return DecodeSmall<10, 15, true>(hn::PromoteTo(DU(), hn::LoadU(d16, p)), 0x7c00u, 0x8000u);
  }
};
struct E4m3Source {
  using T = uint8_t;
  static HWY_INLINE VF Load(const T* p) {
    const hn::Rebind<uint8_t, DU> d8;
    return DecodeSmall<3, 7, false>(hn::PromoteTo(DU(), hn::LoadU(d8, p)), 0x7fu, 0x80u);
  }
};

// Bits of the nearest bf16, ties to even, in the upper half of the lanes.
HWY_INLINE VU RoundBits(VF x) {
  const DU du;
  const auto u = hn::BitCast(du, x);
  const auto odd = hn::And(hn::ShiftRight<16>(u), hn::Set(du, 1u));
  const auto rounded = hn::Add(u, hn::Add(odd, hn::Set(du, 0x7fffu)));
  const auto quiet = hn::Or(u, hn::Set(du, 0x400000u));
  const auto number = hn::RebindMask(du, hn::Eq(x, x));
  return hn::And(hn::IfThenElse(number, rounded, quiet), hn::Set(du, 0xffff0000u));
}

template <class T>
HWY_INLINE void Copy(T* to, const T* from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}

// f(out, in) on whole vectors, the rest through buffers.
template <class Out, class In, class F>
HWY_INLINE void MapRow(Out* out, const In* in, int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + kN <= n; i += kN) f(out + i, in + i);
  if (i == n) return;
  In from[kN] = {};
  Out to[kN] = {};
  Copy(from, in + i, n - i);
  f(to, from);
  Copy(out + i, to, n - i);
}

template <class Source>
struct WidenVector {
  HWY_INLINE void operator()(float* out, const typename Source::T* in) const {
    hn::StoreU(Source::Load(in), DF(), out);
  }
};
template <class Source>
void Widen(float* out, const void* in, int64_t n) {
  MapRow(out, static_cast<const typename Source::T*>(in), n, WidenVector<Source>());
}

struct ScaleVector {
  VF scale;
  HWY_INLINE void operator()(float* out, const uint8_t* in) const {
    hn::StoreU(hn::Mul(E4m3Source::Load(in), scale), DF(), out);
  }
};
void ScaleE4m3(float* out, const void* in, const void* scales, int64_t n) {
  const uint8_t* from = static_cast<const uint8_t*>(in);
  const uint8_t* scale_bytes = static_cast<const uint8_t*>(scales);
  for (int64_t i = 0; i < n; i += kScaleBlock, scale_bytes += sizeof(float)) {
    float scale;
    __builtin_memcpy(&scale, scale_bytes, sizeof scale);
    const int64_t count = n - i < kScaleBlock ? n - i : kScaleBlock;
    MapRow(out + i, from + i, count, ScaleVector{hn::Set(DF(), scale)});
  }
}

struct RoundVector {
  HWY_INLINE void operator()(float* out, const float* in) const {
    hn::StoreU(hn::BitCast(DF(), RoundBits(hn::LoadU(DF(), in))), DF(), out);
  }
  HWY_INLINE void operator()(uint16_t* out, const float* in) const {
    const hn::Rebind<uint16_t, DU> d16;
    const hn::Rebind<int16_t, DU> s16;
    // An arithmetic shift keeps the value within int16, so that the saturating narrowing is exact.
    const auto high = hn::ShiftRight<16>(hn::BitCast(DI(), RoundBits(hn::LoadU(DF(), in))));
    hn::StoreU(hn::BitCast(d16, hn::DemoteTo(s16, high)), d16, out);
  }
};
void RoundF32(float* out, const float* in, int64_t n) { MapRow(out, in, n, RoundVector()); }
void RoundBf16(uint16_t* out, const float* in, int64_t n) { MapRow(out, in, n, RoundVector()); }

// ---- C = A B with B in panels ----

// Values [first, first + kSumCutF32) of k.
template <int kR, int kP>
HWY_INLINE void MulBlock(const MulF32& m, int64_t row, int64_t panel, int64_t first) {
  constexpr int kV = kP * kVectors;
  const DF df;
  const float* a = m.a + row * m.lda + first;
  const float* b = m.b + panel * m.ldb + first * kLanes;
  const int64_t count = m.k - first < kSumCutF32 ? m.k - first : kSumCutF32;
  const bool accumulate = m.accumulate || first > 0;
  VF acc[kR][kV];
  HWY_UNROLL(32)
  for (int r = 0; r < kR; ++r) {
    HWY_UNROLL(32)
    for (int v = 0; v < kV; ++v) acc[r][v] = hn::Zero(df);
  }
  for (int64_t k = 0; k < count; ++k) {
    VF bv[kV];
    HWY_UNROLL(32)
    for (int v = 0; v < kV; ++v) {
      bv[v] = hn::LoadU(df, b + (v / kVectors) * m.ldb + k * kLanes + (v % kVectors) * kN);
    }
    HWY_UNROLL(32)
    for (int r = 0; r < kR; ++r) {
      const auto av = hn::Set(df, a[r * m.lda + k]);
      HWY_UNROLL(32)
      for (int v = 0; v < kV; ++v) acc[r][v] = hn::MulAdd(av, bv[v], acc[r][v]);
    }
  }
  const auto scale = hn::Set(df, m.scale);
  HWY_UNROLL(32)
  for (int v = 0; v < kV; ++v) {
    const int64_t lane = panel * kLanes + v * kN;
    const auto s = m.lane_scale ? hn::Mul(hn::LoadU(df, m.lane_scale + lane), scale) : scale;
    HWY_UNROLL(32)
    for (int r = 0; r < kR; ++r) {
      float* c = m.c + (row + r) * m.ldc + lane;
      hn::StoreU(accumulate ? hn::MulAdd(acc[r][v], s, hn::LoadU(df, c)) : hn::Mul(acc[r][v], s), df, c);
    }
  }
}

template <int kR, int kP>
HWY_INLINE void MulRows(const MulF32& m, int64_t row, int64_t panel) {
  for (; row + kR <= m.rows; row += kR) {
    for (int64_t k = 0; k < m.k; k += kSumCutF32) MulBlock<kR, kP>(m, row, panel, k);
  }
  if constexpr (kR > 1) MulRows<kR / 2, kP>(m, row, panel);
}

void MulTilesF32(const MulF32& m) {
  int64_t panel = 0;
#if HWY_TARGET == HWY_AVX3
  for (; panel + 3 <= m.panels && m.panels - panel != 4; panel += 3) MulRows<8, 3>(m, 0, panel);
  for (; panel + 2 <= m.panels; panel += 2) MulRows<12, 2>(m, 0, panel);
  constexpr int kRows = 16;
#elif HWY_TARGET == HWY_AVX2
  constexpr int kRows = 6;
#elif HWY_TARGET == HWY_NEON
  constexpr int kRows = 6;
#else
  constexpr int kRows = 2;
#endif
  for (; panel < m.panels; ++panel) MulRows<kRows, 1>(m, 0, panel);
}

// ---- y = x w^T for few rows of x ----

template <class Source, int kR, int kM>
HWY_INLINE void DotBlock(const Dot& d, int64_t row, int64_t m) {
  using T = typename Source::T;
  const DF df;
  const T* w = static_cast<const T*>(d.w) + row * d.k;
  const float* x = static_cast<const float*>(d.x) + m * d.ldx;
  const int64_t block = d.w_scale ? kScaleBlock : d.k;
  VF total[kR][kM];
  HWY_UNROLL(8)
  for (int r = 0; r < kR; ++r) {
    HWY_UNROLL(8)
    for (int i = 0; i < kM; ++i) total[r][i] = hn::Zero(df);
  }
  for (int64_t begin = 0; begin < d.k; begin += block) {
    const int64_t end = begin + block < d.k ? begin + block : d.k;
    VF acc[kR][kM];
    HWY_UNROLL(8)
    for (int r = 0; r < kR; ++r) {
      HWY_UNROLL(8)
      for (int i = 0; i < kM; ++i) acc[r][i] = hn::Zero(df);
    }
    int64_t k = begin;
    for (; k + kN <= end; k += kN) {
      VF xv[kM];
      HWY_UNROLL(8)
      for (int i = 0; i < kM; ++i) xv[i] = hn::LoadU(df, x + i * d.ldx + k);
      HWY_UNROLL(8)
      for (int r = 0; r < kR; ++r) {
        hwy::Prefetch(w + (r + kR) * d.k + k);
        const auto wv = Source::Load(w + r * d.k + k);
        HWY_UNROLL(8)
        for (int i = 0; i < kM; ++i) acc[r][i] = hn::MulAdd(wv, xv[i], acc[r][i]);
      }
    }
    if (k < end) {
      HWY_ALIGN T wt[kR][kN] = {};
      HWY_ALIGN float xt[kM][kN] = {};
      for (int r = 0; r < kR; ++r) Copy(wt[r], w + r * d.k + k, end - k);
      for (int i = 0; i < kM; ++i) Copy(xt[i], x + i * d.ldx + k, end - k);
      HWY_UNROLL(8)
      for (int r = 0; r < kR; ++r) {
        const auto wv = Source::Load(wt[r]);
        HWY_UNROLL(8)
        for (int i = 0; i < kM; ++i) acc[r][i] = hn::MulAdd(wv, hn::LoadU(df, xt[i]), acc[r][i]);
      }
    }
    HWY_UNROLL(8)
    for (int i = 0; i < kM; ++i) {
      float s = d.w_scale ? d.w_scale[begin / kScaleBlock] : 1.0f;
      if (d.x_scale) s *= d.x_scale[(m + i) * d.ldxs + begin / kScaleBlock];
      const auto sv = hn::Set(df, s);
      HWY_UNROLL(8)
      for (int r = 0; r < kR; ++r) total[r][i] = hn::MulAdd(acc[r][i], sv, total[r][i]);
    }
  }
  for (int r = 0; r < kR; ++r) {
    for (int i = 0; i < kM; ++i) d.y[(m + i) * d.ldy + row + r] = hn::GetLane(hn::SumOfLanes(df, total[r][i]));
  }
}

// All rows of x (a multiple of them at a time) with kR rows of w while those are in the first cache.
template <class Source, int kR>
HWY_INLINE void DotRows(const Dot& d, int64_t row) {
  for (; row + kR <= d.rows; row += kR) {
    int64_t m = 0;
    for (; m + 4 <= d.m; m += 4) DotBlock<Source, kR, 4>(d, row, m);
    for (; m + 2 <= d.m; m += 2) DotBlock<Source, kR, 2>(d, row, m);
    for (; m < d.m; ++m) DotBlock<Source, kR, 1>(d, row, m);
  }
  if constexpr (kR > 1) DotRows<Source, kR / 2>(d, row);
}

template <class Source>
void DotF32(const Dot& d) {
  if (d.m == 1) {
    DotRows<Source, 4>(d, 0);
  } else {
    DotRows<Source, 2>(d, 0);
  }
}

// ---- Transposition ----

void Transpose32(void* out_bytes, int64_t ldo, const void* in_bytes, int64_t ldi, int64_t rows, int64_t cols) {
  const hn::FixedTag<uint32_t, 4> d;
  const hn::FixedTag<uint64_t, 2> d64;
  uint32_t* out = static_cast<uint32_t*>(out_bytes);
  const uint32_t* in = static_cast<const uint32_t*>(in_bytes);
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    int64_t c = 0;
    for (; c + 4 <= cols; c += 4) {
      const uint32_t* p = in + r * ldi + c;
      uint32_t* q = out + c * ldo + r;
      const auto r0 = hn::LoadU(d, p), r1 = hn::LoadU(d, p + ldi);
      const auto r2 = hn::LoadU(d, p + 2 * ldi), r3 = hn::LoadU(d, p + 3 * ldi);
      const auto a = hn::BitCast(d64, hn::InterleaveLower(d, r0, r1));
      const auto b = hn::BitCast(d64, hn::InterleaveLower(d, r2, r3));
      const auto e = hn::BitCast(d64, hn::InterleaveUpper(d, r0, r1));
      const auto f = hn::BitCast(d64, hn::InterleaveUpper(d, r2, r3));
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, a, b)), d, q);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, a, b)), d, q + ldo);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, e, f)), d, q + 2 * ldo);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, e, f)), d, q + 3 * ldo);
    }
    for (; c < cols; ++c) {
      for (int64_t i = 0; i < 4; ++i) out[c * ldo + r + i] = in[(r + i) * ldi + c];
    }
  }
  for (; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) out[c * ldo + r] = in[r * ldi + c];
  }
}

}  // namespace
}  // namespace fathom::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
