// The tiled gradient of attention, every instruction set of this machine against the reference.
//
// The bound. u = 2^-24, k = dn + dr. A score is off by at most (k + 4) u A, A the scaled sum of its terms' magnitudes;
// its difference from lse is rounded; exp is 2 ulp off: a weight is relatively off by e = (k + 8) u A + u |score - lse|
// + 4 u. dP is off by (dv + 2) u of the magnitudes of its sum, delta by (dv + 2) u of those of its own; D is the sum of
// both magnitudes, so dS = P (dP - delta) is off by P D (e + (dv + 4) u). In kBf16 both sides round P and dS to bf16
// from values that differ by that: 2^-8 of each more (they may fall to neighbours). The gradients are sums over at most
// T keys or queries, with at most 64 + T / 64 roundings in sequence, of products with q, k or dout; shares of dk_rope
// are one sum more of `heads`. So each gradient is off by the sum over its terms of (term's magnitude) (e' + (66 + T /
// 64) u), e' = e + (dv + 4) u [+ 2^-8], magnitudes with |P|, P D, |q|, |k|, |dout|.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/attention_backward.h"
#include "kernels/reference/train.h"
#include "kernels/simd/attention_backward.h"
#include "kernels/train_problem_test.h"

namespace fathom::kernels {

bool AddAmxEmulated(Tiles* tiles);

namespace {

size_t At(int64_t i) { return static_cast<size_t>(i); }

struct Size {
  int64_t tokens, heads, dn, dr, dv;
};

// One sequence with outputs and lse of its own forward pass in double, rounded to float32.
struct Problem {
  Size s;
  int64_t ldq, ldkv, ldo, ldr, ldl;
  std::vector<float> q, kv, rope, dout, out, lse, dq, dkv, dk_rope;
  std::vector<std::byte> kv_bytes;
  AttentionBackwardArgs args;

  Problem(const Size& size, DType dtype, Compute compute, uint64_t stream = 0)
      : s(size),
        ldq(s.heads * (s.dn + s.dr) + 3),
        ldkv(s.heads * (s.dn + s.dv) + 1),
        ldo(s.heads * s.dv + 2),
        ldr(s.dr + 1),
        ldl(s.heads + 1),
        q(Random(s.tokens * ldq, stream + 1)),
        kv(Random(s.tokens * ldkv, stream + 2)),
        rope(Random(s.tokens * ldr, stream + 3)),
        dout(Random(s.tokens * ldo, stream + 4)),
        out(At(s.tokens * ldo), 0.0f),
        lse(At(s.tokens * ldl), 0.0f),
        kv_bytes(kv.size() * At(SizeOf(dtype))) {
    for (size_t i = 0; i < kv.size(); ++i) {
      if (dtype == DType::kBF16) kv[i] = RoundToBf16(kv[i]);
      const uint16_t bits = F32ToBf16(kv[i]);
      if (dtype == DType::kF32) {
        std::memcpy(&kv_bytes[4 * i], &kv[i], 4);
      } else {
        std::memcpy(&kv_bytes[2 * i], &bits, 2);
      }
    }
    args.dout = dout.data();
    args.out = out.data();
    args.ldo = ldo;
    args.q = q.data();
    args.ldq = args.lddq = ldq;
    args.kv = kv_bytes.data();
    args.kv_dtype = dtype;
    args.ldkv = args.lddkv = ldkv;
    args.k_rope = rope.data();
    args.ldk_rope = args.lddk_rope = ldr;
    args.lse = lse.data();
    args.ld_lse = ldl;
    args.heads = s.heads;
    args.tokens = s.tokens;
    args.dn = s.dn;
    args.dr = s.dr;
    args.dv = s.dv;
    args.scale = 1.0f / std::sqrt(static_cast<float>(s.dn + s.dr));
    args.compute = compute;
    Clear();
    Forward();
  }
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;

  void Clear() {
    dq.assign(q.size(), -5.0f);
    dkv.assign(kv.size(), -5.0f);
    dk_rope.assign(rope.size(), 2.0f);
    args.dq = dq.data();
    args.dkv = dkv.data();
    args.dk_rope = dk_rope.data();
  }
  bool rounds() const { return args.compute == Compute::kBf16; }
  double Operand(float x) const { return rounds() ? RoundToBf16(x) : x; }
  double Q(int64_t t, int64_t h, int64_t i) const { return Operand(q[At(t * ldq + h * (s.dn + s.dr) + i)]); }
  double K(int64_t t, int64_t h, int64_t i) const {
    return Operand(i < s.dn ? kv[At(t * ldkv + h * (s.dn + s.dv) + i)] : rope[At(t * ldr + i - s.dn)]);
  }
  double V(int64_t t, int64_t h, int64_t i) const { return Operand(kv[At(t * ldkv + h * (s.dn + s.dv) + s.dn + i)]); }
  double Dout(int64_t t, int64_t h, int64_t i) const { return dout[At(t * ldo + h * s.dv + i)]; }
  double Score(int64_t t, int64_t j, int64_t h, double* size) const {
    double sum = 0;
    *size = 0;
    for (int64_t i = 0; i < s.dn + s.dr; ++i) {
      sum += Q(t, h, i) * K(j, h, i) * args.scale;
      *size += std::abs(Q(t, h, i) * K(j, h, i) * args.scale);
    }
    return sum;
  }

  void Forward() {
    std::vector<double> scores(At(s.tokens));
    for (int64_t h = 0; h < s.heads; ++h) {
      for (int64_t t = 0; t < s.tokens; ++t) {
        double all = 0, size;
        for (int64_t j = 0; j <= t; ++j) all += scores[At(j)] = std::exp(Score(t, j, h, &size));
        for (int64_t i = 0; i < s.dv; ++i) {
          double sum = 0;
          for (int64_t j = 0; j <= t; ++j) sum += scores[At(j)] / all * V(j, h, i);
          out[At(t * ldo + h * s.dv + i)] = static_cast<float>(sum);
        }
        lse[At(t * ldl + h)] = static_cast<float>(std::log(all));
      }
    }
  }

  // Of dq, dkv, dk_rope, in their layouts.
  struct Bounds {
    std::vector<double> dq, dkv, dk_rope;
  };
  Bounds Bound() const {
    Bounds b{std::vector<double>(q.size(), 0.0), std::vector<double>(kv.size(), 0.0),
             std::vector<double>(rope.size(), 0.0)};
    const int64_t k = s.dn + s.dr;
    const double sequence = (66 + static_cast<double>(s.tokens) / 64 + static_cast<double>(s.heads)) * kU;
    for (int64_t h = 0; h < s.heads; ++h) {
      for (int64_t t = 0; t < s.tokens; ++t) {
        double delta = 0;
        for (int64_t i = 0; i < s.dv; ++i) delta += std::abs(Dout(t, h, i) * out[At(t * ldo + h * s.dv + i)]);
        for (int64_t j = 0; j <= t; ++j) {
          double size, d = delta;
          const double score = Score(t, j, h, &size), below = score - lse[At(t * ldl + h)], p = std::exp(below);
          for (int64_t i = 0; i < s.dv; ++i) d += std::abs(Operand(dout[At(t * ldo + h * s.dv + i)]) * V(j, h, i));
          const double e = static_cast<double>(k + 8) * kU * size + kU * std::abs(below) + 4 * kU;
          const double factor = e + static_cast<double>(s.dv + 4) * kU + (rounds() ? 0x1p-8 : 0) + sequence;
          const double weight = p * factor, score_slope = p * d * factor * args.scale;
          for (int64_t i = 0; i < s.dv; ++i) {
            b.dkv[At(j * ldkv + h * (s.dn + s.dv) + s.dn + i)] +=
                weight * std::abs(Operand(static_cast<float>(Dout(t, h, i))));
          }
          for (int64_t i = 0; i < k; ++i) {
            b.dq[At(t * ldq + h * k + i)] += score_slope * std::abs(K(j, h, i));
            double& key = i < s.dn ? b.dkv[At(j * ldkv + h * (s.dn + s.dv) + i)] : b.dk_rope[At(j * ldr + i - s.dn)];
            key += score_slope * std::abs(Q(t, h, i));
          }
        }
      }
    }
    for (double& v : b.dk_rope) v += 2 * static_cast<double>(s.heads + 1) * kU;  // what was there
    return b;
  }
};

void Check(const std::vector<float>& got, const std::vector<float>& expected, const std::vector<double>& bound,
           const std::string& what) {
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_LE(std::abs(static_cast<double>(got[i]) - expected[i]), bound[i])
        << what << " at " << i << ": " << got[i] << " for " << expected[i];
  }
}

template <class F>
void CheckAgainstReference(Problem& p, const std::string& what, const F& run) {
  const Problem::Bounds bounds = p.Bound();
  p.Clear();
  RunPlanned(Isa::kReference, 2, [&](Context& ctx, Arena& arena) { AttentionBackward(ctx, arena, {&p.args, 1}); });
  const std::vector<float> dq = p.dq, dkv = p.dkv, dk_rope = p.dk_rope;
  run([&](const std::string& name) {
    Check(p.dq, dq, bounds.dq, what + name + " dq");
    Check(p.dkv, dkv, bounds.dkv, what + name + " dkv");
    Check(p.dk_rope, dk_rope, bounds.dk_rope, what + name + " dk_rope");
  });
}

constexpr Size kShapes[] = {{1, 2, 24, 8, 40},  {2, 2, 24, 8, 40}, {5, 3, 5, 2, 3},      {63, 2, 24, 8, 40},
                            {64, 1, 16, 8, 16}, {65, 2, 7, 4, 17}, {130, 1, 64, 32, 64}, {300, 1, 8, 2, 8},
                            {70, 2, 0, 4, 33},  {67, 1, 7, 0, 1},  {66, 1, 128, 64, 128}};

TEST(AttentionBackward, MatchesTheReference) {
  for (const Size& s : kShapes) {
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      for (Compute compute : {Compute::kF32, Compute::kBf16}) {
        Problem p(s, dtype, compute);
        const std::string what = fmt::format("{} {} T {} heads {} ", Name(dtype), Name(compute), s.tokens, s.heads);
        CheckAgainstReference(p, what, [&](const auto& check) {
          for (Isa isa : VectorIsas()) {
            p.Clear();
            RunPlanned(isa, 2, [&](Context& ctx, Arena& arena) { AttentionBackward(ctx, arena, {&p.args, 1}); });
            check(std::string(Name(isa)));
            if (testing::Test::HasFatalFailure()) return;
          }
        });
        if (HasFatalFailure()) return;
      }
    }
  }
}

#if defined(__x86_64__)
TEST(AttentionBackward, OnEmulatedAmx) {
  if (!MachineHas(Isa::kAvx512Bf16)) GTEST_SKIP() << "no AVX512-BF16 for the rest of the primitives";
  Tiles tiles = *TilesOf(Isa::kAvx512Bf16);
  ASSERT_TRUE(AddAmxEmulated(&tiles));
  BackwardKernels kernels{.flash = FlashKernelsOf(Isa::kAvx512Bf16, true)};
  kernels.flash.tiles = &tiles;
  kernels.step = BackwardStepBf16;
  kernels.row_dots = avx512::RowDots;
  for (const Size& s : {kShapes[2], kShapes[3], kShapes[5], kShapes[10]}) {
    Problem p(s, DType::kBF16, Compute::kBf16);
    CheckAgainstReference(p, "T " + std::to_string(s.tokens), [&](const auto& check) {
      p.Clear();
      RunPlanned(Isa::kAvx512Bf16, 2, [&](Context& ctx, Arena& arena) {
        AttentionBackwardTiled(ctx, arena, {&p.args, 1}, kernels);
      });
      check(" amx, emulated");
    });
    if (HasFatalFailure()) return;
  }
}
#endif

// Several sequences at once give the bits that each gives alone, on any number of threads. An empty one is allowed.
TEST(AttentionBackward, NeitherThreadsNorNeighboursMatter) {
  for (Isa isa : IsasAndReference()) {
    for (Compute compute : {Compute::kF32, Compute::kBf16}) {
      Problem a({70, 3, 8, 4, 8}, DType::kBF16, compute, 10), b({0, 3, 8, 4, 8}, DType::kBF16, compute, 20);
      Problem c({129, 2, 16, 4, 8}, DType::kBF16, compute, 30);
      for (Problem* p : {&a, &c}) {
        RunPlanned(isa, 1, [&](Context& ctx, Arena& arena) { AttentionBackward(ctx, arena, {&p->args, 1}); });
      }
      const std::vector<float> a_dq = a.dq, a_dkv = a.dkv, a_rope = a.dk_rope, c_dkv = c.dkv, c_rope = c.dk_rope;
      for (int threads : {1, 2, 3}) {
        a.Clear();
        c.Clear();
        const AttentionBackwardArgs sequences[] = {a.args, b.args, c.args};
        RunPlanned(isa, threads, [&](Context& ctx, Arena& arena) { AttentionBackward(ctx, arena, sequences); });
        ASSERT_EQ(a.dq, a_dq) << Name(isa) << " " << threads;
        ASSERT_EQ(a.dkv, a_dkv) << Name(isa) << " " << threads;
        ASSERT_EQ(a.dk_rope, a_rope) << Name(isa) << " " << threads;
        ASSERT_EQ(c.dkv, c_dkv) << Name(isa) << " " << threads;
        ASSERT_EQ(c.dk_rope, c_rope) << Name(isa) << " " << threads;
      }
      RunPlanned(isa, 2, [&](Context& ctx, Arena& arena) { AttentionBackward(ctx, arena, {}); });
    }
  }
}

// A key that is not finite reaches no query before its tile of 64.
TEST(AttentionBackward, NotANumberStaysInItsTiles) {
  for (Isa isa : VectorIsas()) {
    for (Compute compute : {Compute::kF32, Compute::kBf16}) {
      Problem p({140, 1, 8, 4, 8}, DType::kF32, compute);
      RunPlanned(isa, 1, [&](Context& ctx, Arena& arena) { AttentionBackward(ctx, arena, {&p.args, 1}); });
      const std::vector<float> dq = p.dq;
      const float nan = std::numeric_limits<float>::quiet_NaN();
      std::memcpy(&p.kv_bytes[At(100 * p.ldkv * 4)], &nan, 4);
      p.Clear();
      RunPlanned(isa, 1, [&](Context& ctx, Arena& arena) { AttentionBackward(ctx, arena, {&p.args, 1}); });
      for (int64_t t = 0; t < 140; ++t) {
        for (int64_t i = 0; i < 12; ++i) {
          const float got = p.dq[At(t * p.ldq + i)];
          ASSERT_TRUE(t >= 64 || got == dq[At(t * p.ldq + i)]) << Name(isa) << " " << t;
          ASSERT_TRUE(t < 100 || std::isnan(got)) << Name(isa) << " " << t;
        }
      }
    }
  }
}

}  // namespace
}  // namespace fathom::kernels
