#include "kernels/simd/train_rows.h"

#include <hwy/cache_control.h>

#include <cmath>

#include "kernels/simd/elementwise.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/train_rows.cpp"
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
using Half = hn::Rebind<float, D64>;  // as many floats as a vector has doubles
constexpr int64_t kVec = HWY_LANES(float);
constexpr int64_t kVec64 = HWY_LANES(double);

HWY_INLINE float Sum(V v) { return hn::GetLane(hn::SumOfLanes(D(), v)); }

// s = 1 / (1 + e^-x) and rest = 1 - s, each relatively right: rest is e^-x s. Beyond +-80, where both products would
// lose their way between infinity and zero, they stay what they are at 80: less than 2^-115 off.
HWY_INLINE void SigmoidBoth(V x, V* s, V* rest) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  x = Within(d, -80.0f, 80.0f, x);
  const V e = Exp(d, hn::Neg(x));
  *s = hn::Div(one, hn::Add(one, e));
  *rest = hn::Mul(e, *s);
}

// to[i] += v's lane i, for i < n.
HWY_INLINE void AddToDoubles(double* to, V v, int64_t n) {
  const D64 d64;
  const Half half;
  HWY_ALIGN float lanes[kVec];
  hn::Store(v, D(), lanes);
  if (n >= kVec) {
    for (int64_t i = 0; i < kVec; i += kVec64) {
      hn::StoreU(hn::Add(hn::LoadU(d64, to + i), hn::PromoteTo(d64, hn::Load(half, lanes + i))), d64, to + i);
    }
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] += lanes[i];
  }
}

// ---- RMSNorm ----

// A row's r and r^2 mean(w dy x).
struct NormRow {
  float r, c;
};

template <class T>
HWY_INLINE NormRow NormOf(const RmsNormBackwardArgs& args, int64_t row) {
  const D d;
  const float* x = args.x + row * args.ldx;
  const float* dy = args.dy + row * args.lddy;
  const T* weight = static_cast<const T*>(args.weight);
  V squares0 = hn::Zero(d), squares1 = squares0, dot0 = squares0, dot1 = squares0;
  int64_t i = 0;
  for (; i + 2 * kVec <= args.n; i += 2 * kVec) {
    const V x0 = hn::LoadU(d, x + i), x1 = hn::LoadU(d, x + i + kVec);
    squares0 = hn::MulAdd(x0, x0, squares0);
    squares1 = hn::MulAdd(x1, x1, squares1);
    dot0 = hn::MulAdd(hn::Mul(x0, LoadF32(d, weight + i)), hn::LoadU(d, dy + i), dot0);
    dot1 = hn::MulAdd(hn::Mul(x1, LoadF32(d, weight + i + kVec)), hn::LoadU(d, dy + i + kVec), dot1);
  }
  for (; i < args.n; i += kVec) {
    const int64_t left = args.n - i;
    const bool whole = left >= kVec;
    const V v = whole ? hn::LoadU(d, x + i) : LoadTail(d, x + i, left);
    const V w = whole ? LoadF32(d, weight + i) : LoadTail(d, weight + i, left);
    squares0 = hn::MulAdd(v, v, squares0);
    dot0 = hn::MulAdd(hn::Mul(v, w), whole ? hn::LoadU(d, dy + i) : LoadTail(d, dy + i, left), dot0);
  }
  const float n = static_cast<float>(args.n);
  const float r = 1.0f / __builtin_sqrtf(Sum(hn::Add(squares0, squares1)) / n + args.eps);
  return {r, r * r * (Sum(hn::Add(dot0, dot1)) / n)};
}

// kRows rows side by side: their share of dw is summed in float32, then added in double.
template <class T, int kRows, bool kAccumulate>
HWY_INLINE void NormRows(const RmsNormBackwardArgs& args, double* dw, int64_t row) {
  const D d;
  const T* weight = static_cast<const T*>(args.weight);
  NormRow norm[kRows];
  for (int k = 0; k < kRows; ++k) norm[k] = NormOf<T>(args, row + k);
  int64_t left = args.n;
  ForVectors(args.n, [&](const auto& load, const auto& store) HWY_ATTR {
    const V w = load(weight);
    V share = hn::Zero(d);
    HWY_UNROLL(4)
    for (int k = 0; k < kRows; ++k) {
      const V dy = load(args.dy + (row + k) * args.lddy);
      const V xr = hn::Mul(load(args.x + (row + k) * args.ldx), hn::Set(d, norm[k].r));
      float* dx = args.dx + (row + k) * args.lddx;
      share = hn::MulAdd(dy, xr, share);
      const V along = hn::Mul(hn::Mul(dy, w), hn::Set(d, norm[k].r));
      V value = hn::NegMulAdd(xr, hn::Set(d, norm[k].c), along);
      if (kAccumulate) value = hn::Add(load(dx), value);
      store(value, dx);
    }
    AddToDoubles(dw + (args.n - left), share, left);
    left -= kVec;
  });
}

template <class T, bool kAccumulate>
void NormOfRows(const RmsNormBackwardArgs& args, double* dw, int64_t begin, int64_t end) {
  int64_t row = begin;
  for (; row + 4 <= end; row += 4) NormRows<T, 4, kAccumulate>(args, dw, row);
  for (; row < end; ++row) NormRows<T, 1, kAccumulate>(args, dw, row);
}

template <class T>
void NormOfType(const RmsNormBackwardArgs& args, double* dw, int64_t begin, int64_t end) {
  if (args.accumulate) {
    NormOfRows<T, true>(args, dw, begin, end);
  } else {
    NormOfRows<T, false>(args, dw, begin, end);
  }
}

}  // namespace

void RmsNormBackward(const RmsNormBackwardArgs& args, double* dw, int64_t begin, int64_t end) {
  if (args.weight_dtype == DType::kF32) {
    NormOfType<float>(args, dw, begin, end);
  } else if (args.weight_dtype == DType::kBF16) {
    NormOfType<bf16>(args, dw, begin, end);
  } else {
    NormOfType<f16>(args, dw, begin, end);
  }
}

void SwigluBackward(const SwigluBackwardArgs& args, int64_t begin, int64_t end) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t at = row * args.n;
    const V weight = hn::Set(d, args.weight ? args.weight[row] : 1.0f);
    V dweight = hn::Zero(d);
    ForVectors(args.n, [&](const auto& load, const auto& store) HWY_ATTR {
      const V gate = load(args.gate + at), up = load(args.up + at), dy = load(args.dy + at);
      V s, rest;
      SigmoidBoth(gate, &s, &rest);
      const V silu = hn::Mul(gate, s), product = hn::Mul(silu, up), weighted = hn::Mul(weight, dy);
      dweight = hn::MulAdd(dy, product, dweight);
      store(hn::Mul(hn::Mul(weighted, up), hn::Mul(s, hn::MulAdd(gate, rest, one))), args.dgate + at);
      store(hn::Mul(weighted, silu), args.dup + at);
      store(hn::Mul(weight, product), args.y + at);
    });
    if (args.weight) args.dweight[row] = Sum(dweight);
  }
}

// ---- Gate ----

namespace {

// The sum of a[i] b[i].
HWY_INLINE float DotOf(const float* a, const float* b, int64_t n) {
  V sum = hn::Zero(D());
  ForVectors(n, [&](const auto& load, const auto&) HWY_ATTR { sum = hn::MulAdd(load(a), load(b), sum); });
  return Sum(sum);
}
HWY_INLINE float SumOf(const float* a, int64_t n) {
  V sum = hn::Zero(D());
  ForVectors(n, [&](const auto& load, const auto&) HWY_ATTR { sum = hn::Add(sum, load(a)); });
  return Sum(sum);
}
HWY_INLINE float MaxOf(const float* x, int64_t n) {
  const D d;
  V max = hn::Set(d, -__builtin_inff()), max1 = max;
  int64_t i = 0;
  for (; i + 2 * kVec <= n; i += 2 * kVec) {
    max = hn::Max(max, hn::LoadU(d, x + i));
    max1 = hn::Max(max1, hn::LoadU(d, x + i + kVec));
  }
  float top = hn::GetLane(hn::MaxOfLanes(d, hn::Max(max, max1)));
  for (; i < n; ++i) top = x[i] > top ? x[i] : top;
  return top;
}

}  // namespace

void GateBackward(const GateBackwardArgs& args, int64_t begin, int64_t end) {
  const D d;
  const int64_t e = args.experts, k = args.top_k;
  HWY_ALIGN float s[kMostGateExperts], rest[kMostGateExperts], ds[kMostGateExperts];
  for (int64_t t = begin; t < end; ++t) {
    const float* logits = args.logits + t * e;
    const int32_t* ids = args.ids + t * k;
    const float* dweights = args.dweights + t * k;
    float* dlogits = args.dlogits + t * e;
    if (args.sigmoid) {
      ForVectors(e, [&](const auto& load, const auto& store) HWY_ATTR {
        V a, b;
        SigmoidBoth(load(logits), &a, &b);
        store(a, s);
        store(b, rest);
      });
    } else {
      const V top = hn::Set(d, MaxOf(logits, e));
      ForVectors(e,
                 [&](const auto& load, const auto& store) HWY_ATTR { store(Exp(d, hn::Sub(load(logits), top)), s); });
      const V inverse = hn::Set(d, 1.0f / SumOf(s, e));
      ForVectors(e, [&](const auto& load, const auto& store) HWY_ATTR { store(hn::Mul(load(s), inverse), s); });
    }
    double chosen = 1e-20, dot = 0;
    for (int64_t j = 0; j < k; ++j) chosen += s[ids[j]];
    for (int64_t j = 0; j < k; ++j) dot += static_cast<double>(dweights[j]) * s[ids[j]] / chosen;
    for (int64_t i = 0; i < e; ++i) ds[i] = 0;
    for (int64_t j = 0; j < k; ++j) {
      const double slope = args.norm_topk_prob ? (dweights[j] - dot) / chosen : dweights[j];
      ds[ids[j]] = static_cast<float>(args.routed_scaling_factor * slope);
    }
    if (args.balance) {
      const float* g = args.balance + args.sequence_of[t] * e;
      const float inverse_sum = 1.0f / SumOf(s, e);
      const V inverse = hn::Set(d, inverse_sum), mean = hn::Set(d, DotOf(g, s, e) * inverse_sum);
      ForVectors(e, [&](const auto& load, const auto& store)
                        HWY_ATTR { store(hn::MulAdd(hn::Sub(load(g), mean), inverse, load(ds)), ds); });
    }
    if (args.sigmoid) {
      ForVectors(e, [&](const auto& load, const auto& store)
                        HWY_ATTR { store(hn::Mul(load(ds), hn::Mul(load(s), load(rest))), dlogits); });
    } else {
      const V mixed = hn::Set(d, DotOf(ds, s, e));
      ForVectors(e, [&](const auto& load, const auto& store)
                        HWY_ATTR { store(hn::Mul(load(s), hn::Sub(load(ds), mixed)), dlogits); });
    }
  }
}

void Balance(const BalanceArgs& args, double* p, int64_t* counts, int64_t begin, int64_t end) {
  const D64 d64;
  const Half half;
  const int64_t e = args.experts, k = args.top_k, whole = e / kVec64 * kVec64;
  HWY_ALIGN float s[kMostGateExperts];
  float best[kMostGateChosen];
  int32_t index[kMostGateChosen];
  for (int64_t t = begin; t < end; ++t) {
    SigmoidOnce(s, args.logits + t * e, e);
    V64 sum = hn::Zero(d64);
    for (int64_t i = 0; i < whole; i += kVec64) sum = hn::Add(sum, hn::PromoteTo(d64, hn::LoadU(half, s + i)));
    double all = hn::GetLane(hn::SumOfLanes(d64, sum));
    for (int64_t i = whole; i < e; ++i) all += s[i];
    const V64 divisor = hn::Set(d64, all);
    for (int64_t i = 0; i < whole; i += kVec64) {
      const V64 share = hn::Div(hn::PromoteTo(d64, hn::LoadU(half, s + i)), divisor);
      hn::StoreU(hn::Add(hn::LoadU(d64, p + i), share), d64, p + i);
    }
    for (int64_t i = whole; i < e; ++i) p[i] += s[i] / all;
    // The K largest so far, sorted; an equal one that comes later stands behind.
    int64_t taken = 0;
    for (int64_t i = 0; i < e; ++i) {
      if (taken == k && !(s[i] > best[k - 1])) continue;
      int64_t at = taken == k ? k - 1 : taken++;
      for (; at > 0 && s[i] > best[at - 1]; --at) {
        best[at] = best[at - 1];
        index[at] = index[at - 1];
      }
      best[at] = s[i];
      index[at] = static_cast<int32_t>(i);
    }
    for (int64_t j = 0; j < k; ++j) ++counts[index[j]];
  }
}

// ---- Loss ----

namespace {

// The first index of `value`, 0 if there is none (all are NaN).
HWY_INLINE int64_t IndexOf(const float* x, float value, int64_t n) {
  const D d;
  const V wanted = hn::Set(d, value);
  int64_t i = 0;
  for (; i + 4 * kVec <= n; i += 4 * kVec) {
    const auto a = hn::Or(hn::Eq(hn::LoadU(d, x + i), wanted), hn::Eq(hn::LoadU(d, x + i + kVec), wanted));
    const auto b =
        hn::Or(hn::Eq(hn::LoadU(d, x + i + 2 * kVec), wanted), hn::Eq(hn::LoadU(d, x + i + 3 * kVec), wanted));
    if (!hn::AllFalse(d, hn::Or(a, b))) break;
  }
  for (; i < n; ++i) {
    if (x[i] == value) return i;
  }
  return 0;
}

// x = e^(x - shift); returns the sum.
HWY_INLINE float ExpAndSum(float* x, float shift, int64_t n) {
  const D d;
  const V base = hn::Set(d, shift);
  V sum0 = hn::Zero(d), sum1 = sum0;
  int64_t i = 0;
  for (; i + 2 * kVec <= n; i += 2 * kVec) {
    const V a = Exp(d, hn::Sub(hn::LoadU(d, x + i), base)), b = Exp(d, hn::Sub(hn::LoadU(d, x + i + kVec), base));
    hn::StoreU(a, d, x + i);
    hn::StoreU(b, d, x + i + kVec);
    sum0 = hn::Add(sum0, a);
    sum1 = hn::Add(sum1, b);
  }
  float sum = Sum(hn::Add(sum0, sum1));
  for (; i < n; i += kVec) {
    HWY_ALIGN float lanes[kVec];
    const int64_t count = n - i < kVec ? n - i : kVec;
    hn::Store(Exp(d, hn::Sub(LoadTail(d, x + i, count), base)), d, lanes);
    for (int64_t j = 0; j < count; ++j) {
      x[i + j] = lanes[j];
      sum += lanes[j];
    }
  }
  return sum;
}

}  // namespace

void CrossEntropy(const CrossEntropyArgs& args, int64_t begin, int64_t end) {
  const D d;
  for (int64_t row = begin; row < end; ++row) {
    float* logits = args.logits + row * args.vocab;
    const int32_t target = args.targets[row];
    const float top = args.argmax || target >= 0 ? MaxOf(logits, args.vocab) : 0;
    if (args.argmax) args.argmax[row] = static_cast<int32_t>(IndexOf(logits, top, args.vocab));
    if (target < 0) {
      args.losses[row] = 0;
      ForVectors(args.vocab, [&](const auto&, const auto& store) HWY_ATTR { store(hn::Zero(d), logits); });
      continue;
    }
    const float wanted = logits[target];
    const float sum = ExpAndSum(logits, top, args.vocab);
    args.losses[row] = static_cast<float>(static_cast<double>(top) - wanted + std::log(static_cast<double>(sum)));
    const V factor = hn::Set(d, args.scale / sum);
    ForVectors(args.vocab,
               [&](const auto& load, const auto& store) HWY_ATTR { store(hn::Mul(load(logits), factor), logits); });
    logits[target] -= args.scale;
  }
}

void EmbedBackward(const EmbedBackwardArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = 0; row < args.rows; ++row) {
    float* to = args.dtable + args.ids[row] * args.n + begin;
    const float* from = args.dy + row * args.lddy + begin;
    ForVectors(end - begin,
               [&](const auto& load, const auto& store) HWY_ATTR { store(hn::Add(load(to), load(from)), to); });
  }
}

// ---- Optimiser ----

namespace {

struct AdamwFactors {
  V grad, beta1, gain1, beta2, gain2, inverse_c2, eps, step, decay, ema, ema_gain;
  explicit HWY_INLINE AdamwFactors(const AdamwArgs& a) {
    const D d;
    const auto rest = [](float beta) { return static_cast<float>(1 - static_cast<double>(beta)); };
    grad = hn::Set(d, a.grad_scale);
    beta1 = hn::Set(d, a.beta1);
    gain1 = hn::Set(d, rest(a.beta1));
    beta2 = hn::Set(d, a.beta2);
    gain2 = hn::Set(d, rest(a.beta2));
    inverse_c2 = hn::Set(d, static_cast<float>(1 / static_cast<double>(a.c2)));
    eps = hn::Set(d, a.eps);
    step = hn::Set(d, static_cast<float>(static_cast<double>(a.lr) / a.c1));
    decay = hn::Set(d, static_cast<float>(static_cast<double>(a.lr) * a.decay));
    ema = hn::Set(d, a.ema_decay);
    ema_gain = hn::Set(d, rest(a.ema_decay));
  }
};

// One vector: new w, m and v. What is taken from w is summed before it is taken, so that w is rounded once.
HWY_INLINE void AdamwVector(const AdamwFactors& f, V grad, V* w, V* m, V* v) {
  const V g = hn::Mul(grad, f.grad);
  *m = hn::MulAdd(f.beta1, *m, hn::Mul(f.gain1, g));
  *v = hn::MulAdd(f.beta2, *v, hn::Mul(hn::Mul(f.gain2, g), g));
  const V root = hn::Add(hn::Sqrt(hn::Mul(*v, f.inverse_c2)), f.eps);
  *w = hn::Sub(*w, hn::MulAdd(f.decay, *w, hn::Div(hn::Mul(f.step, *m), root)));
}

template <class T>
void AdamwOf(const AdamwArgs& args, int64_t begin, int64_t end) {
  const D d;
  const AdamwFactors factors(args);
  T* moment1 = static_cast<T*>(args.m);
  T* moment2 = static_cast<T*>(args.v);
  const hn::Rebind<uint16_t, D> d16;
  auto* copy = reinterpret_cast<bf16*>(args.bf16);
  // All else is read before it is written; the copy is not, and memory need not be asked for what it held. Highway
  // streams whole vectors of 16 bytes or more.
  const bool stream = kVec >= 8 && copy && reinterpret_cast<uintptr_t>(copy + begin) % (2 * kVec) == 0;
  const auto store_moment = [](V value, T* to) HWY_ATTR {
    if constexpr (sizeof(T) == sizeof(float)) {
      hn::StoreU(value, D(), to);
    } else {
      StoreBf16(D(), value, to);
    }
  };
  int64_t i = begin;
  for (; i + kVec <= end; i += kVec) {
    V w = hn::LoadU(d, args.w + i), m = LoadF32(d, moment1 + i), v = LoadF32(d, moment2 + i);
    AdamwVector(factors, hn::LoadU(d, args.grad + i), &w, &m, &v);
    hn::StoreU(w, d, args.w + i);
    hn::StoreU(hn::Zero(d), d, args.grad + i);
    store_moment(m, moment1 + i);
    store_moment(v, moment2 + i);
    if (stream) {
      hn::Stream(Bf16Bits(d, w), d16, args.bf16 + i);
    } else if (copy) {
      StoreBf16(d, w, copy + i);
    }
    if (args.ema) {
      const V ema = hn::MulAdd(factors.ema, hn::LoadU(d, args.ema + i), hn::Mul(factors.ema_gain, w));
      hn::StoreU(ema, d, args.ema + i);
    }
  }
  if (stream) hwy::FlushStream();
  if (i == end) return;
  // The rest through a vector's worth of copies.
  const int64_t n = end - i;
  HWY_ALIGN float w_rest[kVec] = {}, grad_rest[kVec] = {}, ema_rest[kVec] = {};
  HWY_ALIGN T m_rest[kVec] = {}, v_rest[kVec] = {};
  HWY_ALIGN uint16_t copy_rest[kVec];
  for (int64_t j = 0; j < n; ++j) {
    w_rest[j] = args.w[i + j];
    grad_rest[j] = args.grad[i + j];
    m_rest[j] = moment1[i + j];
    v_rest[j] = moment2[i + j];
    if (args.ema) ema_rest[j] = args.ema[i + j];
  }
  AdamwArgs rest = args;
  rest.w = w_rest;
  rest.grad = grad_rest;
  rest.m = m_rest;
  rest.v = v_rest;
  rest.bf16 = args.bf16 ? copy_rest : nullptr;
  rest.ema = args.ema ? ema_rest : nullptr;
  AdamwOf<T>(rest, 0, kVec);
  for (int64_t j = 0; j < n; ++j) {
    args.w[i + j] = w_rest[j];
    args.grad[i + j] = 0;
    moment1[i + j] = m_rest[j];
    moment2[i + j] = v_rest[j];
    if (args.bf16) args.bf16[i + j] = copy_rest[j];
    if (args.ema) args.ema[i + j] = ema_rest[j];
  }
}

}  // namespace

void Adamw(const AdamwArgs& args, int64_t begin, int64_t end) {
  if (args.moment_dtype == DType::kF32) {
    AdamwOf<float>(args, begin, end);
  } else {
    AdamwOf<bf16>(args, begin, end);
  }
}

double SumOfSquares(const float* x, int64_t n) {
  const D64 d;
  const Half half;
  V64 sums[4];
  for (V64& s : sums) s = hn::Zero(d);
  int64_t i = 0;
  for (; i + 4 * kVec64 <= n; i += 4 * kVec64) {
    HWY_UNROLL(4)
    for (int64_t k = 0; k < 4; ++k) {
      const V64 v = hn::PromoteTo(d, hn::LoadU(half, x + i + k * kVec64));
      sums[k] = hn::MulAdd(v, v, sums[k]);
    }
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]))));
  for (; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

}  // namespace fathom::kernels::FATHOM_SIMD_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FATHOM_SIMD_NAMESPACE
