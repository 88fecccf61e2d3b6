#include "kernels/simd/elementwise.h"

#include "kernels/latent_row.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/elementwise.cpp"
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

template <class T>
HWY_INLINE void ScaleByWeight(float* y, const float* x, const T* weight, float inverse, int64_t n) {
  const V factor = hn::Set(D(), inverse);
  ForVectors(n, [=](const auto& load, const auto& store)
                    HWY_ATTR { store(hn::Mul(hn::Mul(load(x), factor), load(weight)), y); });
}

HWY_INLINE float SumOfSquares(const float* x, int64_t n) {
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    const V a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + lanes);
    const V c = hn::LoadU(d, x + i + 2 * lanes), e = hn::LoadU(d, x + i + 3 * lanes);
    s0 = hn::MulAdd(a, a, s0);
    s1 = hn::MulAdd(b, b, s1);
    s2 = hn::MulAdd(c, c, s2);
    s3 = hn::MulAdd(e, e, s3);
  }
  for (; i < n; i += lanes) {
    const V a = i + lanes <= n ? hn::LoadU(d, x + i) : LoadTail(d, x + i, n - i);
    s0 = hn::MulAdd(a, a, s0);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
}

template <class T>
HWY_INLINE void Widen(float* y, const T* x, int64_t n) {
  ForVectors(n, [=](const auto& load, const auto& store) HWY_ATTR { store(load(x), y); });
}

void WidenAny(float* y, const std::byte* x, DType dtype, int64_t n) {
  if (dtype == DType::kF32) {
    Widen(y, reinterpret_cast<const float*>(x), n);
  } else if (dtype == DType::kBF16) {
    Widen(y, reinterpret_cast<const bf16*>(x), n);
  } else {
    Widen(y, reinterpret_cast<const f16*>(x), n);
  }
}

// This instruction set's own.
const Tiles& OwnTiles() {
#if HWY_TARGET == HWY_SSE4
  return *TilesSse4();
#elif HWY_TARGET == HWY_AVX2
  return *TilesAvx2();
#elif HWY_TARGET == HWY_AVX3
  return *TilesAvx512();
#else
  return *TilesNeon();
#endif
}

HWY_INLINE V Silu(V x) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  return hn::Div(x, hn::Add(one, Exp(d, hn::Neg(x))));
}

}  // namespace

void RmsNorm(const RmsNormArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * args.ldx;
    float* y = args.y + row * args.ldy;
    const float mean = SumOfSquares(x, args.n) / static_cast<float>(args.n);
    const float inverse = 1.0f / __builtin_sqrtf(mean + args.eps);
    if (args.weight_dtype == DType::kF32) {
      ScaleByWeight(y, x, static_cast<const float*>(args.weight), inverse, args.n);
    } else if (args.weight_dtype == DType::kBF16) {
      ScaleByWeight(y, x, static_cast<const bf16*>(args.weight), inverse, args.n);
    } else {
      ScaleByWeight(y, x, static_cast<const f16*>(args.weight), inverse, args.n);
    }
  }
}

// A row's cosines and signed sines are doubled once, to stand under both values of a pair, and used for all heads.
void Rope(const RopeArgs& args, int64_t begin, int64_t end) {
  constexpr int64_t kChunk = 256;
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN float cos[kChunk], sin[kChunk];
  for (int64_t row = begin; row < end; ++row) {
    const int64_t table = args.positions[row] * (args.dim / 2);
    for (int64_t at = 0; at < args.dim; at += kChunk) {
      const int64_t n = args.dim - at < kChunk ? args.dim - at : kChunk;
      for (int64_t i = 0; i < n; ++i) {
        const float s = args.inverse ? -args.sin[table + (at + i) / 2] : args.sin[table + (at + i) / 2];
        cos[i] = args.cos[table + (at + i) / 2];
        sin[i] = i % 2 ? s : -s;
      }
      for (int64_t head = 0; head < args.heads; ++head) {
        float* x = args.x + row * args.row_stride + head * args.head_stride + at;
        const auto rotate = [&](V v, int64_t i) HWY_ATTR {
          return hn::MulAdd(hn::Shuffle2301(v), hn::Load(d, sin + i), hn::Mul(v, hn::Load(d, cos + i)));
        };
        int64_t i = 0;
        for (; i + lanes <= n; i += lanes) hn::StoreU(rotate(hn::LoadU(d, x + i), i), d, x + i);
        if (i < n) StoreTail(d, rotate(LoadTail(d, x + i, n - i), i), x + i, n - i);
      }
    }
  }
}

void Swiglu(const SwigluArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* gate = args.gate + row * args.ldx;
    const float* up = args.up + row * args.ldx;
    float* y = args.y + row * args.ldy;
    ForVectors(args.n,
               [=](const auto& load, const auto& store) HWY_ATTR { store(hn::Mul(Silu(load(gate)), load(up)), y); });
  }
}

void Combine(const CombineArgs& args, int64_t begin, int64_t end) {
  const D d;
  for (int64_t t = begin; t < end; ++t) {
    float* y = args.y + t * args.ldy;
    const int32_t* rows = args.row_of + t * args.top_k;
    const auto weight = [&](int64_t k) HWY_ATTR { return args.weights ? args.weights[t * args.top_k + k] : 1.0f; };
    ForVectors(args.n, [&](const auto& load, const auto& store) HWY_ATTR {
      V sum = load(y);
      for (int64_t k = 0; k < args.top_k; ++k) {
        if (rows[k] >= 0) sum = hn::MulAdd(hn::Set(d, weight(k)), load(args.x + rows[k] * args.ldx), sum);
      }
      store(sum, y);
    });
  }
}

void Embed(const EmbedArgs& args, int64_t begin, int64_t end) {
  const auto* table = static_cast<const std::byte*>(args.table);
  for (int64_t row = begin; row < end; ++row) {
    WidenAny(args.y + row * args.ldy, table + args.ids[row] * args.n * SizeOf(args.table_dtype), args.table_dtype,
             args.n);
  }
}

void CacheWrite(const CacheWriteArgs& args, int64_t begin, int64_t end) {
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t n = args.cache.width;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * args.ldx;
    std::byte* to = args.cache.Row(args.position + row);
    if (args.cache.dtype == DType::kF8E4M3) {
      WriteLatentRow(OwnTiles(), args.cache, to, x);
      continue;
    }
    if (args.cache.dtype == DType::kF32) {
      Widen(reinterpret_cast<float*>(to), x, n);
      continue;
    }
    auto* y = reinterpret_cast<bf16*>(to);
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) StoreBf16(d, hn::LoadU(d, x + i), y + i);
    for (; i < n; ++i) y[i].bits = F32ToBf16(x[i]);
  }
}

void CacheRead(const CacheReadArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const std::byte* from = args.cache.Row(args.begin + row);
    if (args.cache.dtype == DType::kF8E4M3) {
      ReadLatentRow(OwnTiles(), args.cache, from, args.column, args.n, args.y + row * args.ldy);
      continue;
    }
    from += args.column * SizeOf(args.cache.dtype);
    WidenAny(args.y + row * args.ldy, from, args.cache.dtype, args.n);
  }
}

int64_t FirstNonFinite(const float* x, int64_t n) {
  const hn::ScalableTag<uint32_t> du;
  const auto lanes = static_cast<int64_t>(hn::Lanes(du));
  const auto* bits = reinterpret_cast<const uint32_t*>(x);
  const auto exponent = hn::Set(du, 0x7f800000u);
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    auto bad = hn::MaskFromVec(hn::Zero(du));
    for (int64_t k = 0; k < 4; ++k) {
      bad = hn::Or(bad, hn::Eq(hn::And(hn::LoadU(du, bits + i + k * lanes), exponent), exponent));
    }
    if (!hn::AllFalse(du, bad)) break;
  }
  for (; i < n; ++i) {
    if ((bits[i] & 0x7f800000u) == 0x7f800000u) return i;
  }
  return -1;
}

namespace {

using D64 = hn::ScalableTag<double>;
using V64 = hn::Vec<D64>;

// e^x, relative error below 2^-50, of x held within +-80: sigmoid and softmax in float32 are the same there as at x or,
// below, differ by less than 2^-115. x = n ln 2 + r; the polynomial interpolates (e^r - 1 - r) / r^2 at the Chebyshev
// nodes of |r| <= ln(2) / 2. n is rounded by adding 1.5 * 2^52, which leaves it in the low bits. Products and sums are
// rounded apart.
HWY_INLINE V64 ExpF64(V64 x) {
  constexpr double kCoefficients[] = {0x1.28917e2c43a66p-22, 0x1.71de0db21e27fp-19, 0x1.a019b9133a48ap-16,
                                      0x1.a01a01a7c327ap-13, 0x1.6c16c1788a49bp-10, 0x1.11111111109b4p-7,
                                      0x1.5555555553d67p-5,  0x1.5555555555556p-3,  0.5};
  const D64 d;
  const hn::Rebind<int64_t, D64> di;
  const V64 magic = hn::Set(d, 0x1.8p52);
  x = Within(d, -80.0, 80.0, x);
  const V64 shifted = hn::Add(hn::Mul(x, hn::Set(d, 1.4426950408889634)), magic);
  const V64 n = hn::Sub(shifted, magic);
  V64 r = hn::Sub(x, hn::Mul(n, hn::Set(d, 0x1.62e42fefa0000p-1)));
  r = hn::Sub(r, hn::Mul(n, hn::Set(d, 0x1.cf79abc9e3b3ap-40)));
  V64 p = hn::Set(d, 0x1.af38a0d2d9620p-26);
  for (double c : kCoefficients) p = hn::Add(hn::Mul(p, r), hn::Set(d, c));
  p = hn::Add(hn::Add(hn::Mul(hn::Mul(p, r), r), r), hn::Set(d, 1.0));
  const auto power = hn::Add(hn::ShiftLeft<52>(hn::BitCast(di, shifted)), hn::Set(di, int64_t{1023} << 52));
  return hn::Mul(p, hn::BitCast(d, power));
}

// f(x) in double of n float values, in vectors; ends are padded by zeros.
template <class F, class Store>
HWY_INLINE void MapF64(const float* x, int64_t n, const F& f, const Store& store) {
  const D64 d;
  const hn::Rebind<float, D64> df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < n; i += lanes) {
    const auto v = i + lanes <= n ? hn::LoadU(df, x + i) : LoadTail(df, x + i, n - i);
    store(f(hn::PromoteTo(d, v)), i, i + lanes <= n ? lanes : n - i);
  }
}

}  // namespace

void SigmoidOnce(float* y, const float* x, int64_t n) {
  const D64 d;
  const hn::Rebind<float, D64> df;
  const V64 one = hn::Set(d, 1.0);
  MapF64(
      x, n, [=](V64 v) HWY_ATTR { return hn::Div(one, hn::Add(one, ExpF64(hn::Neg(v)))); },
      [=](V64 v, int64_t i, int64_t count) HWY_ATTR {
        const auto rounded = hn::DemoteTo(df, v);
        if (count == static_cast<int64_t>(hn::Lanes(d))) {
          hn::StoreU(rounded, df, y + i);
        } else {
          StoreTail(df, rounded, y + i, count);
        }
      });
}

void ExpOfDifference(double* y, const float* x, float shift, int64_t n) {
  const D64 d;
  const V64 base = hn::Set(d, static_cast<double>(shift));
  MapF64(
      x, n, [=](V64 v) HWY_ATTR { return ExpF64(hn::Sub(v, base)); },
      [=](V64 v, int64_t i, int64_t count) HWY_ATTR {
        HWY_ALIGN double lanes[HWY_MAX_BYTES / sizeof(double)];
        hn::Store(v, d, lanes);
        for (int64_t j = 0; j < count; ++j) y[i + j] = lanes[j];
      });
}

void ExpInPlace(float* x, int64_t n) {
  const D d;
  ForVectors(n, [=](const auto& load, const auto& store) HWY_ATTR { store(Exp(d, load(x)), x); });
}

}  // namespace fathom::kernels::FATHOM_SIMD_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FATHOM_SIMD_NAMESPACE
